"""Which of several checkpoints is best, and which is latest, by what their manifests say; clocks play no part.

Layer 1, no torch.
"""

import math
from collections.abc import Iterable, Sequence

from systems.pixel_llm.checkpoint_folder import CheckpointRecord
from systems.pixel_llm.errors import ConfigError

__all__ = ["best_record", "latest_record", "rank_records"]


def rank_records(records: Iterable[CheckpointRecord], metric_mode: str | None = None) -> list[CheckpointRecord]:
    """Those with the same metric as the newest that has one, best first; of equals the earliest.

    `metric_mode` is "min" or "max"; None takes what that newest one was saved with. Records of another metric, as of a
    run that was resumed with another one, cannot be compared and are left out.

    Raises:
        ConfigError: `metric_mode` is none of these.
    """
    if metric_mode not in ("min", "max", None):
        raise ConfigError(f"metric_mode must be 'min' (lower is better) or 'max', not {metric_mode!r}.")
    measured = [
        (record.metric, record) for record in records if record.metric is not None and math.isfinite(record.metric)
    ]
    if not measured:
        return []
    newest = max((record for _, record in measured), key=lambda record: record.sequence)
    sign = 1 if (metric_mode or newest.metric_mode) == "min" else -1
    comparable = [(metric, record) for metric, record in measured if record.metric_name == newest.metric_name]
    return [record for _, record in sorted(comparable, key=lambda pair: (sign * pair[0], pair[1].sequence))]


def best_record(records: Iterable[CheckpointRecord], metric_mode: str | None = None) -> CheckpointRecord | None:
    """The one with the best metric; None where none has one. `metric_mode` as in `rank_records`."""
    return next(iter(rank_records(records, metric_mode)), None)


def latest_record(records: Sequence[CheckpointRecord]) -> CheckpointRecord | None:
    """The one saved last; None where there is none."""
    return max(records, key=lambda record: record.sequence, default=None)
