"""metrics.jsonl: whole JSON lines, appended; read back as the run finally went."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import CheckpointEvent, Event, StepEvent
from systems.pixel_llm.training.metrics_log import MetricsLog, read_metrics


def places(path: Path) -> list[tuple[str, int]]:
    return [(record["kind"], record["step"]) for record in read_metrics(path)]


def test_records_come_back_in_order(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "new" / "metrics.jsonl")
    log.append("start", {"step": 0})
    log.append("train", {"step": 10, "loss": 1.25, "learning_rate": 1e-3})
    assert read_metrics(log.path) == [
        {"kind": "start", "step": 0},
        {"kind": "train", "step": 10, "loss": 1.25, "learning_rate": 0.001},
    ]


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("train", {"step": 1, "loss": float("nan"), "speed": float("inf")})
    assert "NaN" not in log.path.read_text()
    assert read_metrics(log.path) == [{"kind": "train", "step": 1, "loss": None, "speed": None}]


def test_a_resume_replaces_what_came_after_its_step(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for kind, step in [("start", 0), ("train", 10), ("validation", 12), ("train", 20), ("start", 12), ("train", 20)]:
        log.append(kind, {"step": step})
    assert places(log.path) == [("start", 0), ("train", 10), ("validation", 12), ("start", 12), ("train", 20)]


def test_what_is_logged_again_at_the_step_of_a_resume_is_there_once(tmp_path: Path) -> None:
    """Killed behind an epoch, resumed from the save at its last step: the validation and the epoch's end come again."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    ends = [("train", 3), ("validation", 3), ("epoch", 3)]
    for number, (kind, step) in enumerate([("start", 0), *ends, ("train", 4), ("start", 3), *ends[1:], ("train", 4)]):
        log.append(kind, {"step": step, "number": number})
    expected = [("start", 0), ("train", 3), ("start", 3), ("validation", 3), ("epoch", 3), ("train", 4)]
    assert places(log.path) == expected
    assert [record["number"] for record in read_metrics(log.path)] == [0, 1, 5, 6, 7, 8], "the later of two"


def test_a_new_run_in_the_same_folder_replaces_the_old_one(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for kind, step in [("start", 0), ("train", 0), ("train", 10), ("start", 0), ("train", 10)]:
        log.append(kind, {"step": step})
    assert places(log.path) == [("start", 0), ("train", 10)]


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("train", {"step": 10})
    with log.path.open("ab") as file:
        file.write(b'{"kind": "train", "st')
    assert places(log.path) == [("train", 10)]
    log.append("train", {"step": 30})
    assert places(log.path) == [("train", 10), ("train", 30)]


def test_lines_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"kind": "train", "step": 1}\n\xff\xfe\x00\n[1, 2]\n\n{"kind": "start"}\n{"kind": "train", "step": 2}\n'
    )
    assert [record["step"] for record in read_metrics(path) if record["kind"] == "train"] == [1, 2]


def test_a_text_may_hold_any_character(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("note", {"step": 1, "text": "a\u2028b\nc\u0085d"})
    assert read_metrics(log.path) == [{"kind": "note", "step": 1, "text": "a\u2028b\nc\u0085d"}]


def test_a_run_writes_what_it_measured(
    tiny_trainer: Callable[..., Trainer], shapes_loader: Any, tmp_path: Path
) -> None:
    val_loader = shapes_loader(4, shuffle=False)
    history = tiny_trainer(val_loader=val_loader, log_interval=2).train(2)
    path = tmp_path / "run" / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert all({"kind", "step", "epoch", "elapsed_seconds"} <= record.keys() for record in records)
    assert [(record["kind"], record["step"]) for record in records] == [
        ("start", 0), ("train", 2), ("validation", 3), ("epoch", 3), ("train", 4), ("train", 6), ("validation", 6),
        ("epoch", 6), ("end", 6),
    ]  # fmt: skip
    assert [record["train_loss"] for record in records if record["kind"] == "epoch"] == history["train_losses"]
    assert [record["loss"] for record in records if record["kind"] == "validation"] == history["val_losses"]
    assert all(record["images_per_second"] > 0 for record in records if record["kind"] == "train")
    assert (records[0]["precision"], records[-1]["reason"]) == ("fp32", "epochs")


def test_a_resumed_run_reads_like_an_unbroken_one(tiny_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    """The first part goes on past its last checkpoint, as before a kill; the resumed one does those steps again."""

    def fail(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 5:
            raise SystemExit

    path = tmp_path / "metrics.jsonl"
    first = tiny_trainer(log_interval=1, metrics_file=path, callbacks=[fail])
    with pytest.raises(SystemExit):
        first.train(2)
    assert places(path)[-1] == ("train", 5)
    tiny_trainer(log_interval=1, metrics_file=path).train(2, resume_from="epoch_1")
    assert [step for kind, step in places(path) if kind == "train"] == [1, 2, 3, 4, 5, 6]
    assert [step for kind, step in places(path) if kind == "start"] == [0, 3]


def test_an_epoch_is_in_the_log_before_it_is_saved(
    tiny_trainer: Callable[..., Trainer], shapes_loader: Any, tmp_path: Path
) -> None:
    """A run killed right after that save goes on behind the epoch, and never comes to its end again."""

    def fail(event: Event) -> None:
        if isinstance(event, CheckpointEvent):
            raise SystemExit

    path, val_loader = tmp_path / "metrics.jsonl", shapes_loader(4, shuffle=False)
    first = tiny_trainer(metrics_file=path, val_loader=val_loader, callbacks=[fail])
    with pytest.raises(SystemExit):
        first.train(2)
    tiny_trainer(metrics_file=path, val_loader=val_loader).train(2, resume_from="epoch_1")
    assert [place for place in places(path) if place[0] == "epoch"] == [("epoch", 3), ("epoch", 6)]


def test_a_run_killed_right_after_its_last_save_has_its_end_in_the_log(
    tiny_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, CheckpointEvent):
            raise SystemExit

    path = tmp_path / "metrics.jsonl"
    with pytest.raises(SystemExit):
        tiny_trainer(metrics_file=path, callbacks=[fail]).train(1)
    assert places(path)[-1] == ("epoch", 3)
    for _ in range(2):
        tiny_trainer(metrics_file=path).train(1, resume_from="epoch_1")
        assert [place for place in places(path) if place[0] == "end"] == [("end", 3)], "once"
