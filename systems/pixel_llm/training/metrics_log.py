"""`metrics.jsonl`: what a run measured, one JSON object a line, only ever appended to.

A record has a `kind`: "start" (a run begins or resumes at `step`), "train" (every `log_interval` steps), "validation",
"epoch", "end". Names tell the unit; a loss is in nats a token, shares and `mfu` go from 0 to 1. A resumed run may go
over steps again that an interrupted one had already logged; nothing is rewritten: `read_metrics` lets a "start" at step
s replace all earlier records after step s, and what is then logged at step s replace what was. No torch is loaded by
this module.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from systems.pixel_llm.training.json_lines import JsonLines

__all__ = ["MetricsLog", "read_metrics"]


class MetricsLog:
    """Appends records to one file; each line reaches the operating system at once, so a kill loses none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = JsonLines(path)

    def append(self, kind: str, values: Mapping[str, Any]) -> None:
        """Write one line. A number that is not finite becomes null: JSON has no NaN."""
        self._lines.append({"kind": kind, **{name: _json_value(value) for name, value in values.items()}})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of the run as it finally went, in order, without what an interrupted part logged beyond its resume.

    Lines that are no whole records (torn by a kill) are passed over.
    """
    records: list[dict[str, Any]] = []
    resumed_at = -1
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            continue
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            continue
        if record.get("kind") == "start":
            records = [earlier for earlier in records if earlier["step"] <= record["step"]]
            if record["step"] == 0:
                records = []
            resumed_at = record["step"]
        elif record["step"] == resumed_at:
            # A validation or the end of an epoch, from between the save that was resumed from and the kill.
            records = [each for each in records if (each["step"], each["kind"]) != (resumed_at, record["kind"])]
        records.append(record)
    return records


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _json_value(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
