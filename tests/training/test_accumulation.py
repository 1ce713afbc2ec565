"""Several batches a step: the gradient of one large batch, the end of an epoch, and where memory runs out."""

import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.events import StepEvent
from systems.pixel_llm.training.micro_batches import micro_batches
from systems.pixel_llm.training.optimizer_step import OptimizerStep

CAPTIONS = [
    "a", "a red square on a white background", "two blue circles", "", "a small green triangle left of it", "red",
]  # fmt: skip


def batch_of(captions, *, index=None, seed=0):
    count = len(captions) if index is None else max(index) + 1
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).double()
    batch = {"images": images, "captions": captions}
    return batch if index is None else batch | {"caption_image_index": torch.tensor(index)}


def gradient(model, batches, *, parts=1):
    """Loss and gradient of one step, in fp64."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    step = OptimizerStep(
        model,
        optimizer,
        torch.nn.CrossEntropyLoss(),
        device=torch.device("cpu"),
        precision="fp32",
        max_grad_norm=None,
        seed=0,
    )
    divided = micro_batches(batches, model.encode_captions, parts=parts)
    loss = step.accumulate(divided, step=0)
    return loss, [parameter.grad.clone() for parameter in model.parameters()], len(divided)


@pytest.fixture
def model(tiny_model):
    model = tiny_model(dropout=0.0)
    model.fit_tokenizer(CAPTIONS * 3)
    return model.double()


def together(batches):
    return {
        "images": torch.cat([batch["images"] for batch in batches]),
        "captions": [caption for batch in batches for caption in batch["captions"]],
    }


@pytest.mark.parametrize("sizes", [(1, 5), (2, 2, 2), (3, 1, 2), (1, 1, 1, 1, 1, 1)])
def test_batches_of_unequal_captions_add_up_to_the_large_one(model, sizes):
    batches, start = [], 0
    for seed, size in enumerate(sizes):
        batches.append(batch_of(CAPTIONS[start : start + size], seed=seed))
        start += size
    loss, gradients, count = gradient(model, batches)
    assert count == len(sizes)
    whole, expected, _ = gradient(model, [together(batches)])
    assert float(loss) == pytest.approx(float(whole), rel=1e-6)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("parts", [2, 3, 4, 100])
def test_a_batch_in_parts_is_the_same_batch(model, parts):
    index = [0, 0, 1, 2, 2, 3]
    batch = batch_of(CAPTIONS, index=index)
    loss, gradients, count = gradient(model, [batch], parts=parts)
    assert count == min(parts, 4)
    whole, expected, _ = gradient(model, [batch])
    assert float(loss) == pytest.approx(float(whole), rel=1e-6)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)


def test_each_part_has_its_pictures_with_all_their_captions(model):
    batch = batch_of(CAPTIONS, index=[0, 0, 1, 2, 2, 3])
    parts = micro_batches([batch], model.encode_captions, parts=2)
    assert [len(part.images) for part in parts] == [2, 2]
    assert [part.image_index.tolist() for part in parts] == [[0, 0, 1], [0, 0, 1]]
    assert torch.equal(torch.cat([part.images for part in parts]), batch["images"])
    assert micro_batches([{"images": torch.empty(0, 3, 32, 32), "captions": []}], model.encode_captions) == []


def test_an_epoch_ends_with_the_step_that_is_left(tiny_trainer, shapes_loader):
    trainer = tiny_trainer(train_loader=shapes_loader(20, batch_size=4), gradient_accumulation_steps=2)
    history = trainer.train(2)
    assert (trainer.state.step, trainer.state.samples_seen, len(history["train_losses"])) == (6, 40, 2)


def test_the_trainer_accumulates_what_a_large_batch_would_learn(tiny_trainer, tiny_model, shapes_loader):
    weights = []
    for batch_size, steps in ((12, 1), (4, 3)):
        model = tiny_model(dropout=0.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loader = shapes_loader(24, batch_size=batch_size, shuffle=False)
        trainer = tiny_trainer(
            f"of_{batch_size}", model=model, optimizer=optimizer, train_loader=loader, gradient_accumulation_steps=steps
        )
        trainer.train(1)
        assert trainer.state.step == 2
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


class OutOfMemoryBeyond(torch.nn.Module):
    """A wrapper that has memory for so many pictures at once: in training, or in validation."""

    def __init__(self, module, limit, *, in_training=True):
        super().__init__()
        self.module, self.limit, self.in_training = module, limit, in_training

    def forward(self, images, *arguments, **named):
        if len(images) > self.limit and self.training == self.in_training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return self.module(images, *arguments, **named)


def test_where_memory_runs_out_batches_are_divided_and_the_run_is_the_same(
    tiny_trainer, tiny_model, shapes_loader, caplog
):
    runs = []
    for limit in (100, 3):
        trainer = tiny_trainer(
            f"limit_{limit}", model=OutOfMemoryBeyond(tiny_model(dropout=0.0), limit),
            train_loader=shapes_loader(24, batch_size=8),
        )  # fmt: skip
        runs.append((trainer, trainer.train(2)))
    (free, whole), (tight, divided) = runs
    assert (free.state.batch_parts, tight.state.batch_parts) == (1, 4)
    assert divided["train_losses"] == pytest.approx(whole["train_losses"], rel=1e-4)
    assert "goes through the model in 4 parts" in caplog.text
    again = tiny_trainer(
        "limit_3", model=OutOfMemoryBeyond(tiny_model(dropout=0.0), 3), train_loader=shapes_loader(24, batch_size=8)
    )
    again.resume("epoch_1")
    assert again.state.batch_parts == 4


def test_where_memory_runs_out_in_validation_its_batches_alone_are_divided(
    tiny_trainer, tiny_model, shapes_loader, caplog
):
    runs = []
    for limit in (100, 3):
        trainer = tiny_trainer(
            f"limit_{limit}", model=OutOfMemoryBeyond(tiny_model(dropout=0.0), limit, in_training=False),
            train_loader=shapes_loader(24, batch_size=8), val_loader=shapes_loader(15, batch_size=15),
        )  # fmt: skip
        runs.append((trainer, trainer.train(2)))
    (_, whole), (tight, divided) = runs
    assert (tight.state.batch_parts, tight.state.validation_parts) == (1, 8)
    assert divided["train_losses"] == whole["train_losses"]
    assert divided["val_losses"] == pytest.approx(whole["val_losses"], rel=1e-6)
    assert caplog.text.count("Memory ran out in the validation") == 3, "2, 4 and 8 parts, once for good"
    again = tiny_trainer("limit_3", train_loader=shapes_loader(24, batch_size=8))
    again.resume("epoch_1")
    assert again.state.validation_parts == 8


def test_a_picture_that_does_not_fit_alone_is_an_error_that_loses_nothing(tiny_trainer, tiny_model):
    model = OutOfMemoryBeyond(tiny_model(), 100)

    def shrink(event):
        if isinstance(event, StepEvent) and event.step == 2:
            model.limit = 0

    trainer = tiny_trainer(model=model, callbacks=[shrink])
    with pytest.raises(ConfigError, match=r"Memory ran out on a single picture\. Choose a smaller image_size"):
        trainer.train(1)
    assert [record.name for record in trainer.checkpoint_manager.list()] == ["step_2"]
