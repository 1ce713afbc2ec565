"""The figures of a log interval: each from numbers that can be added up by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from systems.pixel_llm.models.flops import training_flops
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import Event, StepEvent
from systems.pixel_llm.training.interval import Interval
from systems.pixel_llm.training.metrics_log import read_metrics
from systems.pixel_llm.training.optimizer_step import StepOutcome
from systems.pixel_llm.training.utilisation import Utilisation, peak_flops_per_second, peak_of_gpu, utilisation_of

MakeTrainer = Callable[..., Trainer]
CPU = torch.device("cpu")


def outcome(loss: float, norm: float, *, tokens: int = 10, is_bad: bool = False) -> StepOutcome:
    return StepOutcome(torch.tensor(loss), torch.tensor(norm), is_bad, num_tokens=tokens, num_images=2, num_captions=4)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_figures_are_means_and_rates_over_the_interval() -> None:
    clock = Clock()
    interval = Interval(CPU, clock=clock, max_grad_norm=1.0)
    assert interval.is_empty
    interval.add(outcome(1.0, 0.5, tokens=30))
    interval.add(outcome(3.0, 1.5, tokens=10))
    interval.add_wait(1.0)
    clock.seconds += 9
    interval.leave_out(5.0)
    figures = interval.figures()
    assert figures.loss == pytest.approx((30 * 1 + 10 * 3) / 40)
    assert (figures.gradient_norm, figures.clipped_share, figures.data_wait_share) == (1.0, 0.5, 0.25)
    assert (figures.tokens_per_second, figures.images_per_second, figures.captions_per_second) == (10.0, 1.0, 2.0)
    assert (figures.mfu, figures.gpu_memory_bytes) == (None, None)
    assert interval.is_empty


def test_a_bad_step_takes_time_and_has_neither_loss_nor_norm() -> None:
    clock = Clock()
    interval = Interval(CPU, clock=clock, max_grad_norm=1.0)
    interval.add(outcome(math.nan, math.inf, is_bad=True))
    assert interval.is_empty
    interval.add(outcome(2.0, 0.25))
    clock.seconds += 1
    figures = interval.figures()
    assert (figures.loss, figures.gradient_norm, figures.clipped_share) == (2.0, 0.25, 0.0)
    assert (figures.images_per_second, figures.tokens_per_second) == (4.0, 10.0)


def test_a_gradient_that_overflowed_in_fp16_is_left_out_of_the_norm() -> None:
    interval = Interval(CPU, clock=Clock(), max_grad_norm=1.0)
    interval.add(outcome(2.0, math.inf))
    assert (figures := interval.figures()).loss == 2.0
    assert (figures.gradient_norm, figures.clipped_share) == (None, None)


def test_without_a_bound_nothing_is_clipped() -> None:
    interval = Interval(CPU, clock=Clock())
    interval.add(outcome(2.0, 50.0))
    figures = interval.figures()
    assert (figures.gradient_norm, figures.clipped_share) == (50.0, None)
    assert "clipped_share" not in figures.known()


def test_mfu_is_what_the_model_needed_of_what_the_device_could_do(tiny_model: Any) -> None:
    model, clock = tiny_model(), Clock()
    needed = training_flops(model.config, num_images=2, num_captions=4, num_tokens=10, vocab=model.num_embeddings)
    interval = Interval(CPU, clock=clock, utilisation=Utilisation(model, peak=2 * needed))
    interval.add(outcome(1.0, 1.0))
    interval.add(outcome(1.0, 1.0))
    clock.seconds += 4
    assert interval.figures().mfu == 0.25


def test_peaks_are_those_of_the_very_gpu() -> None:
    assert peak_of_gpu("NVIDIA A100-SXM4-80GB", "bf16") == 312e12
    assert peak_of_gpu("NVIDIA H100 80GB HBM3", "bf16") == 989.5e12
    assert peak_of_gpu("NVIDIA H100 PCIe", "bf16") == 756.5e12
    assert peak_of_gpu("NVIDIA L4", "bf16") == 121e12
    assert peak_of_gpu("NVIDIA L40S", "fp16") == 362e12
    assert peak_of_gpu("Tesla T4", "fp16") == 65e12
    assert peak_of_gpu("Tesla T4", "bf16") is None, "its matrix units do not know the format"
    assert peak_of_gpu("NVIDIA A100-SXM4-80GB", "fp32") == 19.5e12
    assert peak_of_gpu("NVIDIA A100-SXM4-80GB", "fp32", is_tf32=True) == 156e12
    assert peak_of_gpu("Tesla T4", "fp32", is_tf32=True) == 8.1e12
    for other in ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA L400", ""):
        assert peak_of_gpu(other, "bf16") is None
    assert peak_flops_per_second(CPU, "bf16") is None


def test_with_frozen_parts_there_is_no_mfu(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("systems.pixel_llm.training.utilisation.peak_flops_per_second", lambda *_: 1e12)
    model = tiny_model()
    assert utilisation_of(model, CPU, "fp32") == Utilisation(model, 1e12)
    model.encoder.stem.requires_grad_(False)
    assert utilisation_of(model, CPU, "fp32") is None


def test_a_run_logs_them(tiny_trainer: MakeTrainer, tmp_path: Path) -> None:
    """The norm of single steps, read by hand at each one, is what the log tells of the interval."""
    norms: list[float] = []
    trainer = tiny_trainer(log_interval=3, learning_rates="encoder=1e-4", max_grad_norm=0.1)
    take = trainer._stepping.take

    def noting(*arguments: Any) -> Any:
        found = take(*arguments)
        norms.append(found.gradient_norm.item())
        return found

    trainer._stepping.take = noting
    events: list[Event] = []
    trainer._recorder.callbacks.append(events.append)
    trainer.train(1)
    (record,) = [each for each in read_metrics(tmp_path / "run" / "metrics.jsonl") if each["kind"] == "train"]
    assert record["gradient_norm"] == pytest.approx(sum(norms) / 3)
    assert record["clipped_share"] == 1.0
    assert record["tokens_per_second"] > record["captions_per_second"] == record["images_per_second"] > 0
    assert record["learning_rates"]["encoder"] == pytest.approx(record["learning_rate"] / 10)
    assert "mfu" not in record, "a processor's peak is not known"
    assert record["process_memory_bytes"] > 2**26
    last = [event for event in events if isinstance(event, StepEvent)][-1]
    assert last.is_logged
    assert {name: getattr(last, name) for name in last.known()} == {name: record[name] for name in last.known()}


def test_groups_of_a_user_s_optimizer_are_numbered(tiny_trainer: MakeTrainer, tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model()
    groups = [{"params": model.encoder.parameters()}, {"params": model.decoder.parameters(), "lr": 0.25}]
    tiny_trainer(model=model, optimizer=torch.optim.SGD(groups, lr=0.5), log_interval=1).train(1)
    record = next(each for each in read_metrics(tmp_path / "run" / "metrics.jsonl") if each["kind"] == "train")
    assert (record["learning_rate"], record["learning_rates"]) == (0.5, {"group_1": 0.25})
