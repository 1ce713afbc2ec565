"""What training minimises and validation reports is what a plain loop over tokens says: to 1e-10, gradients too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from systems.pixel_llm.data.shapes import ShapesDataset
from tests.training import objective_proofs as proofs
from tests.training.objective_proofs import NUM_PICTURES, PROOFS, Pair


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.__name__)
def test_proof(proof: Callable[[], None]) -> None:
    proof()


@st.composite
def pairs_in_batches(draw: st.DrawFn) -> tuple[list[Pair], list[list[int]]]:
    """Any captions of any pictures, in any order, in batches of any sizes."""
    # The replacement character is how the truth tells that a character is torn.
    characters = st.characters(exclude_characters="\N{REPLACEMENT CHARACTER}", exclude_categories=["Cs"])
    texts = st.text(characters, max_size=6) | st.text("ab \N{FOX FACE}", max_size=24)
    pairs = draw(st.lists(st.tuples(texts, st.integers(0, NUM_PICTURES - 1)), min_size=2, max_size=5))
    order = draw(st.permutations(range(len(pairs))))
    ends = sorted(draw(st.sets(st.integers(1, len(pairs) - 1), max_size=3)))
    starts = [0, *ends]
    return pairs, [list(order[start:end]) for start, end in zip(starts, [*ends, len(pairs)], strict=True)]


@settings(max_examples=8)
@given(drawn=pairs_in_batches())
def test_any_captions_in_any_batches(drawn: tuple[list[Pair], list[list[int]]]) -> None:
    pairs, order = drawn
    proofs.a_step_minimises_the_mean_surprise(pairs)
    proofs.micro_batches_add_up_to_the_large_batch(order, pairs)
    proofs.validation_is_the_mean_surprise_in_any_order([order], pairs)


@pytest.mark.parametrize("smoothing", [0.3, 0.99])
def test_padding_changes_nothing_however_much_is_smoothed(smoothing: float) -> None:
    proofs.padding_changes_nothing(smoothing=smoothing)


def test_what_is_learned_depends_on_the_picture(tiny_trainer: Any, tiny_model: Any) -> None:
    dataset = ShapesDataset(6, image_size=32, seed=3, fresh_each_epoch=False)
    samples = [dataset[index] for index in range(len(dataset))]
    images, captions = torch.stack([each["image"] for each in samples]), [each["caption"] for each in samples]
    assert len(set(captions)) == len(captions)
    batch = {"images": images, "captions": captions}
    wrong = {"images": images.roll(1, dims=0), "captions": captions}
    trainer = tiny_trainer(model=tiny_model(dropout=0.0), train_loader=[batch], learning_rate=1e-2, max_steps=60)
    trainer.train()
    with_own = tiny_trainer("own", model=trainer.model, train_loader=[batch], val_loader=[batch]).validate()
    with_another = tiny_trainer("another", model=trainer.model, train_loader=[batch], val_loader=[wrong]).validate()
    assert with_own is not None
    assert with_another is not None
    assert with_another > 1.5 * with_own
