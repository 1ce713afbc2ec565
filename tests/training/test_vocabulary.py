"""Fitting the tokenizer before the first step: which captions are read, and what happens to table and optimizer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.optim import make_optimizer
from systems.pixel_llm.training.vocabulary import fit_vocabulary, prepare_vocabulary, warn_of_cut_captions

MakeTrainer = Callable[..., Trainer]
CAPTIONS = ["a red square", "a blue circle", "a red circle", "a blue square"]


class Samples(Dataset[Any]):
    """A dataset that tells its samples, the first with two captions."""

    def __init__(self) -> None:
        self.samples = [Sample("0.png", ("one", "another")), Sample("1.png", ("two",)), Sample("2.png", ("three",))]  # type: ignore[arg-type]
        self.captions = [caption for sample in self.samples for caption in sample.captions]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("no picture has to be read for the captions")


class Untold(Dataset[Any]):
    """Shapes, without a list of their captions; it counts the pictures drawn."""

    def __init__(self, length: int) -> None:
        self.shapes = ShapesDataset(length, image_size=32)
        self.num_drawn = 0

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Any:
        self.num_drawn += 1
        return self.shapes[index]


class LoaderOf:
    """As much of a loader as the captions need."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset


# --- which captions ---------------------------------------------------------------------------------------------------


SHAPES = ShapesDataset(4, image_size=32)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (Samples(), ["one", "another", "two", "three"]),
        (Subset(Samples(), [2, 0]), ["three", "one", "another"]),
        (ConcatDataset([Subset(Samples(), [1]), Samples()]), ["two", "one", "another", "two", "three"]),
        (Subset(SHAPES, [3]), [SHAPES.captions[3]]),
        (Subset(ConcatDataset([SHAPES, SHAPES]), [1, 6]), [SHAPES.captions[1], SHAPES.captions[2]]),
    ],
)
def test_all_captions_are_taken_through_subset_and_concatenation(
    tiny_model: Any, dataset: Any, expected: list[str]
) -> None:
    model, straight = tiny_model(), tiny_model()
    straight.fit_tokenizer(expected)
    prepare_vocabulary(model, LoaderOf(dataset), torch.optim.SGD(model.parameters()))
    assert model.tokenizer.is_fitted == straight.tokenizer.is_fitted
    assert model.encode_captions(expected).input_ids.tolist() == straight.encode_captions(expected).input_ids.tolist()


def test_a_dataset_that_does_not_tell_is_read_once_with_a_word(
    tiny_model: Any, shapes_loader: Any, caplog: Any
) -> None:
    dataset, model, straight = Untold(5), tiny_model(), tiny_model()
    with caplog.at_level("INFO"):
        prepare_vocabulary(model, shapes_loader(dataset=dataset), torch.optim.SGD(model.parameters()))
    straight.fit_tokenizer(dataset.shapes.captions)
    assert model.tokenizer.encode(dataset.shapes.captions[4]) == straight.tokenizer.encode(dataset.shapes.captions[4])
    assert dataset.num_drawn == 5
    assert "one pass over the loader" in caplog.text


def test_no_caption_at_all_is_an_error(tiny_trainer: MakeTrainer) -> None:
    with pytest.raises(DatasetError, match="holds no caption"):
        tiny_trainer(train_loader=[]).train(1)


def test_a_model_with_a_tokenizer_keeps_it_and_the_data_is_not_read_for_it(
    tiny_trainer: MakeTrainer, tiny_model: Any, shapes_loader: Any
) -> None:
    model, dataset = tiny_model(), Untold(4)
    model.fit_tokenizer(CAPTIONS)
    tokenizer = model.tokenizer
    tiny_trainer(model=model, train_loader=shapes_loader(dataset=dataset)).train(1)
    assert model.tokenizer is tokenizer
    assert dataset.num_drawn == 4, "one epoch, and no pass before it"


def test_a_resumed_run_takes_the_tokenizer_of_the_checkpoint(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    first = tiny_trainer()
    first.train(1)
    other_data = shapes_loader(dataset=ShapesDataset(12, image_size=32, seed=9))
    second = tiny_trainer(train_loader=other_data)
    second.train(2, resume_from="epoch_1")
    assert second.model.tokenizer.encode("a red square") == first.model.tokenizer.encode("a red square")
    assert second.model.num_embeddings == first.model.num_embeddings


# --- the table and the optimizer --------------------------------------------------------------------------------------


def backward(model: PixelLLM) -> None:
    """Gradients of a few captions spelt in bytes."""
    images = torch.randn(len(CAPTIONS), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model(images, CAPTIONS).logsumexp(-1).mean().backward()


OPTIMIZERS: list[Callable[[PixelLLM], torch.optim.Optimizer]] = [
    lambda model: make_optimizer(model, learning_rate=1e-2, weight_decay=0.1),
    lambda model: torch.optim.Adam(model.parameters(), lr=1e-2),
    lambda model: torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_fitting_after_steps_cuts_table_gradient_and_state_in_place(tiny_model: Any, make: Any) -> None:
    model = tiny_model(vocab_size=5000, dropout=0.0)
    optimizer = make(model)
    backward(model)
    optimizer.step()
    optimizer.zero_grad()
    backward(model)
    weight = model.decoder.token_embedding.weight
    first_rows, gradient = weight.detach()[:320].clone(), weight.grad[:320].clone()
    moments = {name: value[:320].clone() for name, value in optimizer.state[weight].items() if value.dim() > 0}
    assert moments
    fit_vocabulary(model, CAPTIONS, optimizer)
    assert model.decoder.token_embedding.weight is weight
    assert any(parameter is weight for group in optimizer.param_groups for parameter in group["params"])
    assert (model.num_embeddings, weight.shape) == (320, (320, 32))
    assert torch.equal(weight, first_rows)
    assert torch.equal(weight.grad, gradient)
    for name, moment in moments.items():
        assert torch.equal(optimizer.state[weight][name], moment)
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
        backward(model)
    assert weight.isfinite().all()
    assert not torch.equal(weight, first_rows)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_steps_after_the_fit_are_those_of_an_optimizer_that_never_knew_the_longer_table(
    tiny_model: Any, make: Any
) -> None:
    """Byte ids come first, so the rows that stay see the same gradients in both."""
    long, short = tiny_model(vocab_size=5000, dropout=0.0), tiny_model(vocab_size=5000, dropout=0.0)
    short.resize_embeddings(320)
    optimizers = {id(model): make(model) for model in (long, short)}
    gradients = [torch.randn(320, 32, generator=torch.Generator().manual_seed(step)) for step in range(4)]
    for step, gradient in enumerate(gradients):
        if step == 2:
            for model in (long, short):
                fit_vocabulary(model, CAPTIONS, optimizers[id(model)])
        for model in (long, short):
            weight = model.decoder.token_embedding.weight
            weight.grad = torch.zeros_like(weight)
            weight.grad[:320] = gradient
            optimizers[id(model)].step()
    assert torch.equal(long.decoder.token_embedding.weight, short.decoder.token_embedding.weight)


def test_the_trainer_fits_before_its_first_step(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    model = tiny_model(vocab_size=50_000)
    weight = model.decoder.token_embedding.weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tiny_trainer(model=model, optimizer=optimizer).train(1)
    assert model.tokenizer.is_fitted
    assert model.decoder.token_embedding.weight is weight
    assert len(weight) % 64 == 0
    assert model.tokenizer.vocab_size <= len(weight) < model.tokenizer.vocab_size + 64
    assert optimizer.state[weight]["exp_avg"].shape == weight.shape


def test_the_ceiling_holds(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    model = tiny_model(vocab_size=265)
    tiny_trainer(model=model).train(1)
    assert model.tokenizer.vocab_size == model.num_embeddings == 265


# --- captions that are too long ---------------------------------------------------------------------------------------


def test_captions_that_would_be_cut_are_counted_once(tiny_trainer: MakeTrainer, tiny_model: Any, caplog: Any) -> None:
    trainer = tiny_trainer(model=tiny_model(max_seq_len=5))
    trainer.train(1)
    trainer.train(2)
    [record] = [record for record in caplog.records if "max_seq_len" in record.message]
    lengths = [count + 1 for count in trainer.model.tokenizer.count_tokens(trainer.train_loader.dataset.captions)]
    assert f"{sum(length > 5 for length in lengths)} of 12 captions" in record.message
    assert record.message.endswith(f"the longest needs max_seq_len={max(lengths)}.")


def test_captions_that_fit_exactly_are_not_warned_of(tiny_model: Any, caplog: Any) -> None:
    model = tiny_model(max_seq_len=6)
    warn_of_cut_captions(model, ["12345"])  # five bytes and the end mark
    assert not caplog.records
    warn_of_cut_captions(model, ["123456"])
    assert "1 of 1 captions (100.0 %)" in caplog.text
