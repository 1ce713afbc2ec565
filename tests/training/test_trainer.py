"""The loop itself: what a step minimises and what an epoch's losses mean."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.errors import ConfigError, DatasetError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training import Trainer, TrainingOptions
from systems.pixel_llm.training.events import EpochEvent, Event, RunEndEvent, RunStartEvent, StepEvent

MakeTrainer = Callable[..., Trainer]

UNEQUAL = ["a red square", "blue", "a very small green star beside an even smaller yellow circle", "two", "a circle"]


class Captioned(torch.utils.data.Dataset[Any]):
    """Pictures of noise with the given captions."""

    def __init__(self, captions: list[str]) -> None:
        self.captions = captions

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(index)
        image = torch.randn(3, 32, 32, generator=generator)
        return {"image": image, "caption": self.captions[index], "image_path": str(index)}


def stop_at(step: int) -> tuple[list[Trainer], Callable[[Event], None]]:
    """A list to put the trainer into, and a callback that stops it after `step` steps."""
    trainers: list[Trainer] = []

    def callback(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == step:
            trainers[0].request_stop()

    return trainers, callback


# --- losses -----------------------------------------------------------------------------------------------------------


def loss_token_by_token(model: PixelLLM, batches: Any) -> list[tuple[float, int]]:
    """(mean, number of tokens) of each batch: the surprise at each next token, one caption and one token at a time."""
    losses = []
    for batch in batches:
        surprises = []
        for image, caption in zip(batch["images"], batch["captions"], strict=True):
            ids = [model.tokenizer.bos_id, *model.tokenizer.encode(caption), model.tokenizer.eos_id]
            for length in range(1, len(ids)):
                with torch.no_grad():
                    logits = model(image[None], torch.tensor([ids[:length]]))[0, -1]
                surprises.append(-F.log_softmax(logits, dim=-1)[ids[length]].item())
        losses.append((sum(surprises) / len(surprises), len(surprises)))
    return losses


def test_the_loss_of_a_step_is_the_mean_surprise_at_each_next_token_and_the_end(
    tiny_trainer: MakeTrainer, tiny_model: Any, shapes_loader: Any
) -> None:
    loader = shapes_loader(dataset=Captioned(UNEQUAL), batch_size=3, shuffle=False)
    model = tiny_model(dropout=0.0)
    trainer = tiny_trainer(model=model, train_loader=loader)
    model.fit_tokenizer(UNEQUAL)
    batch = next(iter(loader))
    [(expected, _)] = loss_token_by_token(model, [batch])
    assert trainer.train_step(batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_an_epoch_is_the_mean_over_tokens_not_over_batches(
    tiny_trainer: MakeTrainer, tiny_model: Any, shapes_loader: Any
) -> None:
    loader = shapes_loader(dataset=Captioned(UNEQUAL), batch_size=2, shuffle=False)
    model = tiny_model(dropout=0.0)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = tiny_trainer(model=model, train_loader=loader, optimizer=frozen)
    trainer.train(1)
    parts = loss_token_by_token(model, loader)
    over_tokens = sum(mean * count for mean, count in parts) / sum(count for _, count in parts)
    over_batches = sum(mean for mean, _ in parts) / len(parts)
    assert abs(over_tokens - over_batches) > 1e-3, "this data can tell them apart"
    assert trainer.get_history()["train_losses"] == pytest.approx([over_tokens], rel=1e-5)


def test_the_validation_loss_does_not_depend_on_batch_size_or_order(
    tiny_trainer: MakeTrainer, tiny_model: Any, shapes_loader: Any
) -> None:
    losses = []
    for settings in ({"batch_size": 1}, {"batch_size": 2}, {"batch_size": 5}, {"batch_size": 2, "shuffle": True}):
        val_loader = shapes_loader(dataset=Captioned(UNEQUAL), **{"shuffle": False} | settings)
        losses.append(tiny_trainer(model=tiny_model(), val_loader=val_loader).validate())
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-6)


def test_validation_draws_nothing_and_leaves_the_model_in_its_mode(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    trainer = tiny_trainer(val_loader=shapes_loader(4, shuffle=False))
    trainer.model.train()
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    before = torch.get_rng_state()
    assert trainer.validate() == trainer.validate()
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.model.training
    trainer.model.eval()
    trainer.validate()
    assert not trainer.model.training
    assert all(
        torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items() if "emb" not in name
    )
    assert tiny_trainer().validate() is None


def test_the_model_learns(tiny_trainer: MakeTrainer, tiny_model: Any, shapes_loader: Any) -> None:
    dataset = ShapesDataset(8, image_size=32, fresh_each_epoch=False)
    loader = shapes_loader(dataset=dataset, batch_size=8)
    trainer = tiny_trainer(model=tiny_model(dropout=0.0), train_loader=loader, learning_rate=1e-2)
    losses = trainer.train(20)["train_losses"]
    assert len(losses) == 20
    assert losses[-1] < 0.6 * losses[0]


# --- loss and optimizer of the user -----------------------------------------------------------------------------------


def test_a_loss_of_the_user_gets_the_supervised_positions_only(
    tiny_trainer: MakeTrainer, tiny_model: Any, shapes_loader: Any
) -> None:
    class Watching(nn.CrossEntropyLoss):
        calls: list[tuple[Tensor, Tensor]] = []  # noqa: RUF012

        def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
            self.calls.append((predictions.detach(), targets))
            return super().forward(predictions, targets)

    loss_fn = Watching()
    loader = shapes_loader(dataset=Captioned(UNEQUAL), batch_size=5, shuffle=False)
    trainer = tiny_trainer(model=tiny_model(), train_loader=loader, loss_fn=loss_fn)
    trainer.train(1)
    [(predictions, targets)] = loss_fn.calls
    tokenizer = trainer.model.tokenizer
    said = [token for caption in UNEQUAL for token in [*tokenizer.encode(caption), tokenizer.eos_id]]
    assert targets.tolist() == said
    assert predictions.shape == (len(said), trainer.model.num_embeddings)
    assert predictions.dtype == torch.float32


def test_plain_cross_entropy_trains_like_the_default_loss(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    histories = [
        tiny_trainer(folder, val_loader=shapes_loader(5, batch_size=2, shuffle=False), loss_fn=loss_fn).train(2)
        for folder, loss_fn in (("own", None), ("plain", nn.CrossEntropyLoss()), ("function", F.cross_entropy))
    ]
    for history in histories[1:]:
        for name, values in history.items():
            assert values == pytest.approx(histories[0][name], rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, [0.1] * 6),
        ("constant", [0.1] * 6),
        ("cosine", [0.0983, 0.0854, 0.0629, 0.0371, 0.0146, 0.0017]),
    ],
)
def test_an_optimizer_of_the_user_is_used_and_its_rate_moves_only_by_a_schedule(
    tiny_trainer: MakeTrainer, tiny_model: Any, schedule: str | None, expected: list[float]
) -> None:
    model, rates = tiny_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = tiny_trainer(
        model=model, optimizer=optimizer, schedule=schedule, warmup_fraction=0.0,
        callbacks=[lambda event: rates.append(event.learning_rate) if isinstance(event, StepEvent) else None],
    )  # fmt: skip
    assert trainer.optimizer is optimizer
    before = model.encoder.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    trainer.train(2)
    assert rates == pytest.approx(expected, abs=1e-4)
    assert any(not torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_the_default_rate_warms_up_and_falls_and_is_constant_under_a_bare_epoch(tiny_trainer: MakeTrainer) -> None:
    rates: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, StepEvent):
            rates.append(event.learning_rate)

    tiny_trainer(callbacks=[note], warmup_fraction=0.5).train(2)
    assert rates[:3] == sorted(rates[:3])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < min(rates) < max(rates) <= 1e-3
    rates.clear()
    tiny_trainer(callbacks=[note])._train_epoch(0)
    assert rates == [1e-3] * 3


def test_gradients_are_clipped(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    moved = []
    for max_grad_norm in (None, 1e-3):
        model = tiny_model(dropout=0.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        trainer = tiny_trainer(model=model, optimizer=optimizer, max_grad_norm=max_grad_norm)
        model.fit_tokenizer(trainer.train_loader.dataset.captions)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        trainer.train_step(next(iter(trainer.train_loader)))
        changes = [(now - then).flatten() for now, then in zip(model.parameters(), before, strict=True)]
        moved.append(torch.cat(changes).norm().item())
    assert moved[1] <= 1.01e-3
    assert moved[0] > 2 * moved[1]


# --- epochs -----------------------------------------------------------------------------------------------------------


def test_a_loop_of_one_s_own_over_epochs(tiny_trainer: MakeTrainer) -> None:
    by_hand, whole = (
        tiny_trainer("by_hand", schedule="constant", warmup_fraction=0.0),
        tiny_trainer("whole", schedule="constant", warmup_fraction=0.0),
    )
    losses = [by_hand._train_epoch(epoch) for epoch in range(2)]
    assert whole.train(2)["train_losses"] == losses == by_hand.get_history()["train_losses"]
    assert by_hand.checkpoint_manager.list() == [], "saving is the loop's own business"


def test_the_history_given_back_is_a_copy(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    trainer.train(1)["train_losses"].clear()
    assert len(trainer.get_history()["train_losses"]) == 1


def test_loaders_that_do_not_know_their_length_train_by_epochs(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    class Endless(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            dataset = ShapesDataset(6, image_size=32)
            return iter(dataset[index] for index in range(6))

    loader = shapes_loader(dataset=Endless(), shuffle=None)
    unbroken = tiny_trainer("unbroken", train_loader=loader)
    history = unbroken.train(2)
    assert (len(history["train_losses"]), unbroken.state.step) == (2, 4)
    trainers, callback = stop_at(3)
    trainers.append(tiny_trainer("broken", train_loader=loader, callbacks=[callback]))
    trainers[0].train(2)
    resumed = tiny_trainer("broken", train_loader=loader)
    assert resumed.train(2, resume_from="step_3") == history


def test_events_tell_the_run_in_order(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    events: list[Event] = []
    tiny_trainer(callbacks=[events.append], log_interval=2, val_loader=shapes_loader(2, shuffle=False)).train(1)
    kinds = [type(event).__name__.removesuffix("Event") for event in events]
    assert kinds == ["RunStart", "Step", "Step", "Step", "Validation", "Epoch", "Checkpoint", "RunEnd"]
    assert [event.is_logged for event in events if isinstance(event, StepEvent)] == [False, True, False]
    assert isinstance(events[0], RunStartEvent)
    assert isinstance(events[-1], RunEndEvent)
    assert (events[-1].reason, events[-1].epoch, events[-1].step) == ("epochs", 1, 3)
    assert {event.total_steps for event in events} == {3}
    [epoch] = [event for event in events if isinstance(event, EpochEvent)]
    assert epoch.val_loss is not None


# --- what cannot be trained -------------------------------------------------------------------------------------------


def test_an_empty_loader_is_an_error(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    with pytest.raises(DatasetError, match="The loader gives no batch"):
        tiny_trainer(train_loader=shapes_loader(2, drop_last=True)).train(1)
    with pytest.raises(DatasetError, match="The loader gives no batch"):
        tiny_trainer(val_loader=shapes_loader(2, drop_last=True)).validate()


def test_a_run_without_an_end_is_refused(tiny_trainer: MakeTrainer) -> None:
    with pytest.raises(ConfigError, match="The run has no end"):
        tiny_trainer().train()


def test_a_batch_of_another_kind_is_explained(tiny_trainer: MakeTrainer) -> None:
    with pytest.raises(ConfigError, match=r"found keys \['image'\]. Pass collate_fn=dataset.get_collate_fn\(\)"):
        tiny_trainer(train_loader=[{"image": torch.zeros(1)}]).train(1)
    with pytest.raises(ConfigError, match="found list"):
        tiny_trainer(train_loader=[[torch.zeros(1)]]).train(1)


def test_other_models_are_refused(shapes_loader: Any, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"Trainer trains a PixelLLM .* not a Linear"):
        Trainer(nn.Linear(2, 2), shapes_loader(), checkpoint_dir=tmp_path)


def test_settings_come_by_name_or_as_options(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer(options=TrainingOptions(seed=3, learning_rate=0.5), learning_rate=0.25)
    assert (trainer.options.seed, trainer.options.learning_rate) == (3, 0.25)
    with pytest.raises(ConfigError, match="Did you mean 'learning_rate'"):
        tiny_trainer(learning_rat=0.1)
    for name in ("checkpoint_interval", "log_interval"):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1, not 0"):
            tiny_trainer(**{name: 0})


def test_a_compiled_or_parallel_wrapper_is_seen_through(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *arguments: Any, **named: Any) -> Any:
            return self.module(*arguments, **named)

    wrapped, plain = tiny_trainer("wrapped", model=Wrapper(tiny_model())), tiny_trainer("plain")
    assert wrapped.train(1) == plain.train(1)
    assert plain.resume("epoch_1")["epoch"] == 1
