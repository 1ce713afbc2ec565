"""A run folder read for whoever wants to show it: options, measurements, what was said on the way, scores, machine.

Any file may be missing (an interrupted run, an older one) or damaged. Then that part is empty and `missing` says in
words what was not found, so that whatever is shown stays honest and the rest is shown all the same. No torch is loaded
by this module.
"""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from systems.pixel_llm.errors import DatasetError, PixelLLMError
from systems.pixel_llm.evaluation.data_record import DATA_FILE, DataRecord, read_data_record
from systems.pixel_llm.evaluation.evaluation_files import CAPTIONS_FILE, SCORES_FILE, read_evaluation
from systems.pixel_llm.evaluation.result import EvaluationResult
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.training.metrics_log import read_metrics

__all__ = ["PanelCaption", "PanelEntry", "RunRecord", "read_run"]


@dataclass(frozen=True, kw_only=True)
class PanelCaption:
    """What was said of one picture at one validation."""

    image: str
    """Its path."""
    caption: str
    references: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PanelEntry:
    """One validation."""

    step: int
    captions: tuple[PanelCaption, ...]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is known of a run."""

    path: Path
    """The folder, as it was named."""
    options: dict[str, Any]
    """Name -> value, as in `options.toml`."""
    metrics: tuple[dict[str, Any], ...]
    """What `read_metrics` gives."""
    panel: tuple[PanelEntry, ...]
    environment: dict[str, Any]
    data: DataRecord | None
    """Names and numbers of what it was trained on."""
    evaluation: EvaluationResult | None
    missing: dict[str, str]
    """Of the fields above those that are empty: why, as a sentence."""

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The measurements of a kind, such as "validation"."""
        return [record for record in self.metrics if record.get("kind") == kind]

    def points(self, kind: str, name: str) -> list[tuple[float, float]]:
        """(step, value) wherever a measurement of this kind has a number of this name."""
        return [
            (record["step"], float(value))
            for record in self.records(kind)
            if isinstance(value := record.get(name), int | float) and not isinstance(value, bool)
        ]

    def score_points(self, name: str) -> list[tuple[float, float]]:
        """(step, value) of a score that was measured at validations, by its key, such as "cider_d"."""
        return [
            (record["step"], float(value))
            for record in self.records("validation")
            if isinstance(scores := record.get("scores"), dict)
            and isinstance(value := scores.get(name), int | float)
            and not isinstance(value, bool)
        ]

    def last(self, name: str) -> Any:
        """The newest value of that name in the measurements, whatever their kind; None where there is none."""
        return next((record[name] for record in reversed(self.metrics) if record.get(name) is not None), None)

    @cached_property
    def best_validation(self) -> tuple[float, float] | None:
        """(step, loss) of the lowest validation loss."""
        return min(self.points("validation", "loss"), key=lambda point: point[1], default=None)

    @property
    def end_reason(self) -> str | None:
        """Why it ended: epochs, max_steps, max_minutes, interrupted; None where it goes on or was killed."""
        last = self.metrics[-1] if self.metrics else {}
        return str(last.get("reason")) if last.get("kind") == "end" else None

    @property
    def data_name(self) -> str:
        """The names of its data folders, without where they lie; empty where they are not known."""
        if self.data is not None:
            return " + ".join(self.data.folders)
        data = self.options.get("data", [])
        folders = data if isinstance(data, list) else [data]
        return " + ".join(Path(str(folder)).name for folder in folders)


def read_run(path: Path) -> RunRecord:
    """Read what is there.

    Raises:
        PixelLLMError: `path` is no run folder: it is not there, or holds neither options nor measurements.
    """
    folder = RunFolder(path)
    if not path.is_dir():
        raise PixelLLMError(f"{path}: there is no such folder. Name a run folder, as train leaves it (runs/...).")
    if not folder.options.is_file() and not folder.metrics.is_file():
        raise PixelLLMError(
            f"{path} holds neither {folder.options.name} nor {folder.metrics.name}: it is no run. Name a run folder, "
            "as train leaves it (runs/...)."
        )
    missing: dict[str, str] = {}
    return RunRecord(
        path=path,
        options=_read_table(folder.options, missing, key="options", what="The settings"),
        metrics=tuple(_read_lines(folder.metrics, missing, key="metrics", what="No measurements")),
        panel=_read_panel(folder.panel, missing),
        environment=_read_table(folder.environment, missing, key="environment", what="The machine and the versions"),
        data=_read_data(path, missing),
        evaluation=_read_evaluation(folder.evaluation, missing),
        missing=missing,
    )


def _read_data(run: Path, missing: dict[str, str]) -> DataRecord | None:
    try:
        record = read_data_record(run)
    except DatasetError as error:
        record, missing["data"] = None, f"Names and numbers of the data cannot be read: {error}"
    else:
        if record is None:
            missing["data"] = f"Names and numbers of the data were not written down ({DATA_FILE} is not there)."
    return record


def _read_evaluation(folder: Path, missing: dict[str, str]) -> EvaluationResult | None:
    """The evaluation with which the run ended, else the newest that `evaluate` left in a folder of its own."""
    if not (folder / SCORES_FILE).is_file() and not (folder / CAPTIONS_FILE).is_file():
        later = sorted(folder.glob(f"*/{SCORES_FILE}"), key=lambda path: (path.stat().st_mtime_ns, path))
        if not later:
            missing["evaluation"] = "No validation pictures were captioned and scored."
            return None
        folder = later[-1].parent
    try:
        return read_evaluation(folder)
    except DatasetError as error:
        missing["evaluation"] = f"The captions and scores of the validation pictures cannot be shown: {error}"
        return None


def _read_table(path: Path, missing: dict[str, str], *, key: str, what: str) -> dict[str, Any]:
    """A TOML or JSON file with names and values."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        if not isinstance(table, dict):
            raise ValueError("it holds no names and values")
    except FileNotFoundError:
        missing[key] = f"{what} of this run were not written down ({path.name} is not there)."
    except (OSError, ValueError, RecursionError) as error:
        missing[key] = f"{what} of this run cannot be read: {path.name} is damaged ({error})."
    else:
        return table
    return {}


def _read_lines(path: Path, missing: dict[str, str], *, key: str, what: str) -> Sequence[dict[str, Any]]:
    try:
        records = read_metrics(path)
    except FileNotFoundError:
        records, why = [], f"{path.name} is not there"
    except OSError as error:
        records, why = [], f"{path.name} cannot be read: {error.strerror}"
    else:
        why = f"{path.name} holds none"
    if not records:
        missing[key] = f"{what} were kept ({why})."
    return records


def _read_panel(path: Path, missing: dict[str, str]) -> tuple[PanelEntry, ...]:
    lines = _read_lines(path, missing, key="panel", what="No captions from the time of the training")
    entries = []
    for line in lines:
        if line.get("kind") != "panel":
            continue
        try:
            captions = tuple(
                PanelCaption(
                    image=str(each["image"]), caption=str(each["caption"]),
                    references=tuple(map(str, each["references"])),
                )
                for each in line["captions"]
            )  # fmt: skip
        except (KeyError, TypeError):
            continue  # no whole record, as the reader of the lines has it
        if captions:
            entries.append(PanelEntry(step=line["step"], captions=captions))
    if lines and not entries:
        missing["panel"] = "It was not validated, so no captions from the time of the training are there."
    return tuple(entries)
