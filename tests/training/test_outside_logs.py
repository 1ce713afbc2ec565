"""`log_to`: what TensorBoard and W&B are told, read back from their own files; none of them can end a run."""

import builtins
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training import Trainer, TrainingOptions
from systems.pixel_llm.training.metrics_log import read_metrics
from systems.pixel_llm.training.outside_logs import OutsideLogs, make_outside_logs
from systems.pixel_llm.training.panel import PanelCaption

MakeTrainer = Callable[..., Trainer]


def captions(said: str = "a red square") -> list[PanelCaption]:
    pixels = np.full((4, 6, 3), 200, np.uint8)
    # Of two like pictures W&B keeps one file.
    return [
        PanelCaption(
            image=f"/pictures/{name}.jpg", caption=said, references=("a square", "red"), pixels=pixels // number
        )
        for number, name in enumerate(("a|b", "c"), start=1)
    ]


class ListLog:
    """An outside log that keeps what it is told, and fails where it is asked to."""

    name = "The list"

    def __init__(self, *, fails_at: str = "") -> None:
        self.told: list[tuple[Any, ...]] = []
        self._fails_at = fails_at

    def _note(self, *what: Any) -> None:
        self.told.append(what)
        if what[0] == self._fails_at:
            raise OSError(28, "No space left on device")

    def begin(self, *, step: int) -> None:
        self._note("begin", step)

    def add_figures(self, figures: Mapping[str, float], *, step: int) -> None:
        self._note("figures", step, dict(figures))

    def add_captions(self, captions: Sequence[PanelCaption], *, step: int) -> None:
        self._note("captions", step, captions)

    def end(self, *, is_complete: bool) -> None:
        self._note("end", is_complete)


def test_it_is_told_what_metrics_jsonl_holds(tiny_trainer: MakeTrainer, shapes_loader: Any, tmp_path: Path) -> None:
    log = ListLog()
    trainer = tiny_trainer(val_loader=shapes_loader(4, shuffle=False), log_interval=2, learning_rates="encoder=1e-4")
    trainer._recorder._outside_logs = OutsideLogs([log])
    trainer.train(1)
    assert [what[0] for what in log.told] == ["begin", "figures", "figures", "figures", "end"]
    assert (log.told[0], log.told[-1]) == (("begin", 0), ("end", True))
    told = {name: value for what in log.told[1:-1] for name, value in what[2].items()}
    records = {each["kind"]: each for each in read_metrics(tmp_path / "run" / "metrics.jsonl")}
    assert told["train/loss"] == records["train"]["loss"]
    assert told["train/gradient_norm"] == records["train"]["gradient_norm"]
    assert told["train/learning_rates/encoder"] == records["train"]["learning_rates"]["encoder"]
    assert told["validation/loss"] == records["validation"]["loss"]
    assert told["epoch/train_loss"] == records["epoch"]["train_loss"]
    assert all(isinstance(value, int | float) for value in told.values())


def test_scores_are_told_by_name() -> None:
    log = ListLog()
    logs = OutsideLogs([log])
    logs.begin(step=0)
    logs.add("validation", {"loss": 2.0, "scores": {"cider_d": 0.5, "distinct_captions": 0.25}, "note": "x"}, step=7)
    logs.add("end", {"reason": "epochs"}, step=7)
    told = {"validation/loss": 2.0, "validation/scores/cider_d": 0.5, "validation/scores/distinct_captions": 0.25}
    assert log.told == [("begin", 0), ("figures", 7, told)]


@pytest.mark.parametrize("fails_at", ["begin", "figures", "captions", "end"])
def test_one_that_fails_is_warned_of_once_and_told_nothing_more(fails_at: str, caplog: Any) -> None:
    broken, sound = ListLog(fails_at=fails_at), ListLog()
    logs = OutsideLogs([broken, sound])
    logs.begin(step=0)
    for step in (1, 2):
        logs.add("train", {"loss": 1.0}, step=step)
        logs.add_captions(captions(), step=step)
    logs.end(is_complete=False)
    assert [what[0] for what in broken.told].count(fails_at) == 1
    assert broken.told[-1][0] == fails_at
    assert [what[0] for what in sound.told] == ["begin", "figures", "captions", "figures", "captions", "end"]
    (warning,) = caplog.messages
    assert warning == (
        "The list gets nothing more of this run, which goes on: OSError: [Errno 28] No space left on device"
    )


def test_a_run_that_breaks_is_told_as_such(tiny_trainer: MakeTrainer) -> None:
    def fail(event: Any) -> None:
        raise ValueError("mine")

    log = ListLog()
    trainer = tiny_trainer(callbacks=[fail])
    trainer._recorder._outside_logs = OutsideLogs([log])
    with pytest.raises(ValueError, match="mine"):
        trainer.train(1)
    assert log.told == [("begin", 0), ("end", False)]


# --- the setting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, ()), ("", ()), ("tensorboard", ("tensorboard",)), ("wandb, tensorboard", ("wandb", "tensorboard")),
        (["wandb", "wandb"], ("wandb",)), ([], ()),
    ],
)  # fmt: skip
def test_names_with_commas_or_in_a_list(given: Any, names: tuple[str, ...]) -> None:
    options = TrainingOptions(log_to=given)
    assert options.log_names == names
    assert options.replaced(seed=1).log_names == names


@pytest.mark.parametrize("given", ["tensorbord", "tensorboard,", [7]])
def test_an_unknown_name_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="log_to must be tensorboard or wandb, or both with a comma between, not "):
        TrainingOptions(log_to=given)


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_package_is_told_before_training(
    package: str, tiny_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real_import = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}")
        return real_import(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    message = rf"log_to='{package}' needs the package {package}.*pip install 'pixel-llm\[{package}\]'"
    with pytest.raises(ConfigError, match=message):
        tiny_trainer(log_to=package)
    assert not (tmp_path / "run").exists()


def test_a_process_that_is_not_the_first_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    logs = make_outside_logs(("tensorboard", "wandb"), tmp_path, settings={})
    logs.begin(step=0)
    logs.end(is_complete=True)
    assert list(tmp_path.iterdir()) == []


# --- the real ones ----------------------------------------------------------------------------------------------------


def events_of(folder: Path) -> Any:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = event_accumulator.EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_tensorboard_reads_back_what_was_measured(tiny_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Beyond the resume too: what the first part told of later steps is gone."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (the extra `tensorboard`)")

    def fail(event: Any) -> None:
        if event.step == 5:
            raise SystemExit

    settings = {"log_interval": 1, "metrics_file": tmp_path / "metrics.jsonl", "log_to": "tensorboard"}
    first = tiny_trainer(callbacks=[fail], **settings)
    with pytest.raises(SystemExit):
        first.train(2)
    again = tiny_trainer(**settings)
    again.train(2, resume_from="epoch_1")
    accumulator = events_of(tmp_path / "tensorboard")
    records = [each for each in read_metrics(tmp_path / "metrics.jsonl") if each["kind"] == "train"]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    for name in ("loss", "learning_rate", "gradient_norm", "images_per_second"):
        scalars = accumulator.Scalars(f"train/{name}")
        assert [(each.step, pytest.approx(each.value)) for each in scalars] == [
            (record["step"], record[name]) for record in records
        ]


def test_tensorboard_shows_the_panel(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (the extra `tensorboard`)")
    logs = make_outside_logs(["tensorboard"], tmp_path, settings={})
    logs.begin(step=0)
    logs.add_captions(captions("a <b>red</b> square"), step=3)
    logs.add_captions(captions("a red square"), step=6)
    logs.end(is_complete=True)
    accumulator = events_of(tmp_path / "tensorboard")
    texts = [each.tensor_proto.string_val[0].decode() for each in accumulator.Tensors("panel/text_summary")]
    assert len(texts) == 2
    assert "| 1 | a&#124;b.jpg | a &#60;b&#62;red&#60;/b&#62; square | a square / red |" in texts[0].splitlines()
    (picture,) = accumulator.Images("panel/1")
    assert (picture.step, picture.width, picture.height) == (3, 6, 4)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_without_its_folder_costs_a_warning(tiny_trainer: MakeTrainer, tmp_path: Path, caplog: Any) -> None:
    """Its files cannot be made where a file has the folder's name."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (the extra `tensorboard`)")
    (tmp_path / "tensorboard").write_text("in the way")
    trainer = tiny_trainer(log_to="tensorboard", log_interval=1, metrics_file=tmp_path / "metrics.jsonl")
    assert len(trainer.train(1)["train_losses"]) == 1
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("TensorBoard gets nothing more of this run, which goes on: ")


@pytest.fixture
def wandb_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W&B without network, account or words, and with its files in the test's folder."""
    pytest.importorskip("wandb", reason="wandb is not installed (the extra `wandb`)")
    for name in ("MODE", "SILENT", "ERROR_REPORTING"):
        monkeypatch.setenv(f"WANDB_{name}", {"MODE": "offline", "SILENT": "true"}.get(name, "false"))
    for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb_home"))
    for name in ("PROJECT", "NAME", "ENTITY", "RUN_ID"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


def wait_for_wandb() -> None:
    """Until its own process has written all that it was told: the end of a run does not wait for that."""
    import wandb

    wandb.teardown()


def wandb_records(folder: Path) -> Iterator[Any]:
    """The records of an offline run: a file in the log format of LevelDB, a header of 7 bytes before."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("run-*.wandb")
    data, place, text = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        text += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(text)
            yield record
            text = b""


@pytest.mark.slow
def test_wandb_keeps_what_was_measured(
    tiny_trainer: MakeTrainer, tmp_path: Path, wandb_offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"log_interval": 1, "metrics_file": tmp_path / "metrics.jsonl", "log_to": "wandb"}
    for number, resume_from in ((1, None), (2, "epoch_1")):
        monkeypatch.setenv("WANDB_X_SYNC_DIR_SUFFIX", str(number))  # else named by the second, and both may be in one
        tiny_trainer(**settings).train(number, resume_from=resume_from)
    ids, losses = set(), []
    wait_for_wandb()
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    for folder in folders:
        for record in wandb_records(folder):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "train/loss" in items:
                losses.append((json.loads(items["step"]), json.loads(items["train/loss"])))
    records = [each for each in read_metrics(tmp_path / "metrics.jsonl") if each["kind"] == "train"]
    assert losses == [(each["step"], pytest.approx(each["loss"])) for each in records]
    assert ids == {(tmp_path / "wandb" / "run_id.txt").read_text().strip()}


@pytest.mark.slow
def test_wandb_keeps_the_panel(tmp_path: Path, wandb_offline: None) -> None:
    logs = make_outside_logs(["wandb"], tmp_path, settings={"seed": 7})
    logs.begin(step=0)
    logs.add_captions(captions(), step=3)
    logs.end(is_complete=True)
    wait_for_wandb()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert len(list(folder.glob("files/media/images/panel_*.png"))) == 2
    told = [record.history for record in wandb_records(folder) if record.HasField("history")]
    items = {"/".join(item.nested_key) or item.key: item.value_json for item in told[0].item}
    assert json.loads(items["panel/captions"]) == ["a red square"] * 2
