"""The objective by brute force, and the proofs that the Trainer minimises and reports nothing else.

The truth is a plain loop: of each caption the ids, for each place the logits of the model given its own picture and
exactly the tokens before, alone in its batch, without padding; the surprise at the token that follows; the sum over all
captions, divided by the number of tokens. Each proof is a function that raises AssertionError where the Trainer differs
from that, in fp64 and gradients included. `test_objective.py` runs them as they are; `test_objective_faults.py` puts
faults into the program and sees them fail.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.tokenizer import CaptionTokenizer, TokenBatch
from systems.pixel_llm.training import Trainer

MAX_SEQ_LEN = 18
NUM_PICTURES = 3
Pair = tuple[str, int]
"""A caption and the number of its picture."""

PAIRS: list[Pair] = [
    ("a red square beside a small red circle", 1),  # cut
    ("", 0),
    ("two", 2),
    ("a red circle", 0),
    ("a very small green star below an even smaller yellow circle and a blue square", 1),  # cut
    ("e\u0301te\u0301 \U0001f98a", 2),  # an accent in two characters
    ("\U0001f98a" * 9, 0),  # cut, and not within a character
    ("a", 1),
    ("ein kleiner blauer Kreis \u2014 \u5c0f\u3055\u306a\u9752\u3044\u5186", 2),  # cut
]
ORDERS: list[list[list[int]]] = [
    [[0, 1, 2, 3, 4, 5, 6, 7, 8]],
    [[each] for each in range(9)],
    [[0, 4], [1, 2, 3, 5, 6], [7], [8]],
    [[8, 7, 6, 5], [4], [3, 2, 1, 0]],
]
"""Ways to divide `PAIRS` into batches."""


# --- the truth --------------------------------------------------------------------------------------------------------


def ids_of(tokenizer: CaptionTokenizer, caption: str) -> list[int]:
    """`<bos>`, the caption, `<eos>`; at most MAX_SEQ_LEN after the first, cut where a character ends."""
    ids = tokenizer.encode(caption)
    kept = min(len(ids), MAX_SEQ_LEN - 1)
    while "\N{REPLACEMENT CHARACTER}" in tokenizer.decode(ids[:kept]):
        kept -= 1
    return [tokenizer.bos_id, *ids[:kept], tokenizer.eos_id]


def surprise(model: PixelLLM, logits: Tensor, following: int, *, smoothing: float) -> Tensor:
    """Of one place: minus the log-probability of what follows, a share of it spread over all that could."""
    log_probabilities = logits - logits.exp().sum().log()
    could_follow = [
        each
        for each in range(model.tokenizer.vocab_size)
        if each not in (model.tokenizer.pad_id, model.tokenizer.bos_id)
    ]
    spread = sum(log_probabilities[each] for each in could_follow) / len(could_follow)
    return -(1 - smoothing) * log_probabilities[following] - smoothing * spread


def truth(model: PixelLLM, pairs: Sequence[Pair] = PAIRS, *, smoothing: float = 0.0) -> Tensor:
    """The mean surprise at all tokens of all captions, a scalar that knows its gradient."""
    surprises = []
    for caption, picture in pairs:
        ids = ids_of(model.tokenizer, caption)
        for place in range(1, len(ids)):
            before, following = torch.tensor([ids[:place]]), ids[place]
            logits = model(pictures()[picture : picture + 1], before)[0, -1]
            surprises.append(surprise(model, logits, following, smoothing=smoothing))
    return torch.stack(surprises).sum() / len(surprises)


def gradients_of_truth(model: PixelLLM, pairs: Sequence[Pair] = PAIRS, *, smoothing: float = 0.0) -> dict[str, Tensor]:
    model.zero_grad()
    truth(model, pairs, smoothing=smoothing).backward()
    return gradients(model)


# --- the parts --------------------------------------------------------------------------------------------------------


def pictures() -> Tensor:
    """[P, 3, H, W] noise."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(NUM_PICTURES, 3, 16, 16, generator=generator, dtype=torch.float64)


def make_model() -> PixelLLM:
    """A small model in fp64 whose every weight matters, with a tokenizer and spare rows in its table."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_pixel_llm(
            image_size=16, patch_size=8, vision_embed_dim=16, vision_num_layers=1, text_num_layers=2,
            vocab_size=400, max_seq_len=MAX_SEQ_LEN, dropout=0.0,
        )  # fmt: skip
        model.fit_tokenizer(["a red square beside a small red circle", "a red circle"])
        model.double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.5)
    assert model.tokenizer.is_fitted
    assert model.tokenizer.vocab_size < model.num_embeddings, "there are spare rows"
    return model


def batch_of(pairs: Sequence[Pair]) -> dict[str, Any]:
    """As a data set with `caption_choice="all"` makes it: each picture once, in the order of the captions."""
    order = list(dict.fromkeys(picture for _, picture in pairs))
    return {
        "images": pictures()[order],
        "captions": [caption for caption, _ in pairs],
        "caption_image_index": torch.tensor([order.index(picture) for _, picture in pairs]),
    }


def batches_of(order: Sequence[Sequence[int]], pairs: Sequence[Pair] = PAIRS) -> list[dict[str, Any]]:
    return [batch_of([pairs[each] for each in numbers]) for numbers in order]


def make_trainer(model: PixelLLM, *, batches: Any = None, **settings: Any) -> Trainer:
    """A trainer whose steps change nothing and leave the gradients to be seen."""
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = batches or batches_of(ORDERS[0])
    settings = {"precision": "fp32", "max_grad_norm": None, "progress": "off"} | settings
    return Trainer(model, batches, batches, optimizer=frozen, device="cpu", checkpoint_dir="never_written", **settings)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad.clone()
    return found


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to 1e-10 of the largest."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        assert scale > 0, f"{name} has no gradient to compare"
        difference = (found[name] - gradient).abs().max().item()
        assert difference <= 1e-10 * scale, f"{name}: differs by {difference} of {scale}"


def assert_same(found: Tensor | float | None, expected: Tensor | float) -> None:
    assert found is not None
    found, expected = float(found), float(expected)
    assert abs(found - expected) <= 1e-10 * abs(expected), f"found {found}, expected {expected}"


# --- the proofs -------------------------------------------------------------------------------------------------------


def a_step_minimises_the_mean_surprise(pairs: Sequence[Pair] = PAIRS, *, smoothing: float = 0.0) -> None:
    """The value that `train_step` returns and the gradient that it steps along."""
    model = make_model()
    trainer = make_trainer(model, label_smoothing=smoothing)
    assert_same(trainer.train_step(batch_of(pairs)), truth(model, pairs, smoothing=smoothing).detach())
    found = gradients(model)
    assert_same_gradients(found, gradients_of_truth(model, pairs, smoothing=smoothing))


def a_smoothed_step_minimises_the_smoothed_surprise() -> None:
    a_step_minimises_the_mean_surprise(smoothing=0.1)


def targets_are_the_next_tokens_and_the_end() -> None:
    """What the loss gets is, caption by caption, each next token and the end mark, and nothing else."""
    given: list[Tensor] = []

    def noting(predictions: Tensor, targets: Tensor) -> Tensor:
        given.append(targets)
        return F.cross_entropy(predictions, targets)

    model = make_model()
    trainer = make_trainer(model, loss_fn=noting)
    trainer.train_step(batch_of(PAIRS))
    trainer.validate()
    expected = [each for caption, _ in PAIRS for each in ids_of(model.tokenizer, caption)[1:]]
    assert [targets.tolist() for targets in given] == [expected, expected], "in the step, and in validation"
    cut = [caption for caption, _ in PAIRS if len(model.tokenizer.encode(caption)) >= MAX_SEQ_LEN]
    assert len(cut) == 4, "as many are longer, and end in the mark all the same"
    assert expected.count(model.tokenizer.eos_id) == len(PAIRS)


def padding_changes_nothing(*, smoothing: float = 0.0) -> None:
    """The loss and the gradients with more padding, and with any ids at all in its place."""
    short = [PAIRS[each] for each in (1, 2, 7)]

    def step(
        change: Callable[[CaptionTokenizer, Sequence[str]], TokenBatch] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        model = make_model()
        trainer = make_trainer(model, label_smoothing=smoothing)
        if change is not None:
            model.encode_captions = lambda captions: change(model.tokenizer, captions)  # type: ignore[method-assign]
        return trainer.train_step(batch_of(short)), gradients(model)

    expected_loss, expected_gradients = step(None)
    for change in (_padded, _padded_with_anything):
        found_loss, found_gradients = step(change)
        assert_same(found_loss, expected_loss)
        assert_same_gradients(found_gradients, expected_gradients)


def _padded(tokenizer: CaptionTokenizer, captions: Sequence[str]) -> TokenBatch:
    """The captions as they are padded beside the longest, which is then taken away."""
    tokens = tokenizer.encode_batch([*captions, "x" * MAX_SEQ_LEN], max_seq_len=MAX_SEQ_LEN)
    num_positions = tokens.targets[:-1].numel()
    return TokenBatch(
        input_ids=tokens.input_ids[:-1],
        targets=tokens.targets[:-1],
        supervised=tokens.supervised[tokens.supervised < num_positions],
        num_truncated=0,
    )


def _padded_with_anything(tokenizer: CaptionTokenizer, captions: Sequence[str]) -> TokenBatch:
    tokens = _padded(tokenizer, captions)
    anything = torch.randint(tokenizer.vocab_size, tokens.input_ids.shape, generator=torch.Generator().manual_seed(1))
    is_padding = torch.arange(tokens.input_ids.shape[1]) > torch.tensor(
        [[len(ids_of(tokenizer, caption)) - 2] for caption in captions]
    )
    return TokenBatch(
        input_ids=torch.where(is_padding, anything, tokens.input_ids),
        targets=tokens.targets,
        supervised=tokens.supervised,
        num_truncated=0,
    )


LOSSES: dict[str, dict[str, Any]] = {
    "CaptionLoss": {},
    "CaptionLoss, smoothed": {"label_smoothing": 0.1},
    "a mean of the user": {"loss_fn": nn.CrossEntropyLoss()},
    "a smoothed mean of the user": {"loss_fn": nn.CrossEntropyLoss(label_smoothing=0.1)},
}
"""Settings of the Trainer."""


def micro_batches_add_up_to_the_large_batch(
    order: Sequence[Sequence[int]] = ORDERS[2], pairs: Sequence[Pair] = PAIRS
) -> None:
    """Unequal micro-batches, each by its share of the step's tokens, give the loss and gradients of the one batch."""
    for settings in LOSSES.values():
        model = make_model()
        trainer = make_trainer(model, **settings)
        expected = trainer.train_step(batch_of(pairs))
        expected_gradients = gradients(model)
        batches = batches_of(order, pairs)
        accumulating = make_trainer(model, batches=batches, gradient_accumulation_steps=len(batches), **settings)
        taken = accumulating._fetching.of_step(iter(batches), count=len(batches))
        assert len(taken) == len(batches)
        outcome = accumulating._take_step(taken)
        assert outcome is not None
        assert_same(outcome.loss, expected)
        assert_same_gradients(gradients(model), expected_gradients)


def validation_is_the_mean_surprise_in_any_order(
    orders: Sequence[Sequence[Sequence[int]]] = ORDERS, pairs: Sequence[Pair] = PAIRS
) -> None:
    """For every batch size and order, and without smoothing, whatever training does."""
    model = make_model()
    with torch.no_grad():
        expected = truth(model, pairs)
    for order in orders:
        for smoothing in (0.0, 0.1):
            trainer = make_trainer(model, batches=batches_of(order, pairs), label_smoothing=smoothing)
            assert_same(trainer.validate(), expected)


def captions_look_at_their_own_picture() -> None:
    """With the pictures given to other captions the loss is another, and the one that the plain loop says."""
    moved = [(caption, (picture + 1) % NUM_PICTURES) for caption, picture in PAIRS]
    losses = []
    for pairs in (PAIRS, moved):
        model = make_model()
        losses.append(make_trainer(model).train_step(batch_of(pairs)))
        assert_same(losses[-1], truth(model, pairs).detach())
    assert abs(losses[0] - losses[1]) > 1e-3, "the picture moves the loss"


PROOFS: list[Callable[[], None]] = [
    a_step_minimises_the_mean_surprise,
    a_smoothed_step_minimises_the_smoothed_surprise,
    targets_are_the_next_tokens_and_the_end,
    padding_changes_nothing,
    micro_batches_add_up_to_the_large_batch,
    validation_is_the_mean_surprise_in_any_order,
    captions_look_at_their_own_picture,
]
