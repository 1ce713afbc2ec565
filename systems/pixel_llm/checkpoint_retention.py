"""Which checkpoints of a run stay, and why; the others are removed.

`reasons_to_keep` is a pure function of what the manifests say; `prune` removes those that have no reason. A checkpoint
stays that is among the best or the newest two of its run, that the run was resumed from, that was saved with
`keep=True`, or that was copied or renamed by hand; and each one of another run, whatever is in it. Damaged folders are
no business of pruning: they are left for a person to look at.

Layer 1, no torch, so that the command line can ask without loading it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from systems.pixel_llm.checkpoint_folder import CheckpointRecord
from systems.pixel_llm.checkpoint_lineage import Lineage
from systems.pixel_llm.checkpoint_ranking import best_record, rank_records
from systems.pixel_llm.whole_folder import discard_folder

__all__ = [
    "BEST", "COPY", "KEEP", "NEWEST", "OTHER_RUN", "RECENT", "RESUMED_FROM", "Reasons", "newest_of_run",
    "prune", "reasons_to_keep",
]  # fmt: skip

BEST, NEWEST, RECENT, RESUMED_FROM, KEEP = (
    "among the best",
    "among the newest",
    "recent",
    "resumed from",
    "saved to be kept",
)
COPY, OTHER_RUN = "copied by hand", "of another run"

NUM_NEWEST_KEPT = 2
"""Should the newest turn out damaged, there is one before it."""

Reasons = Mapping[str, tuple[str, ...]]
"""Name of a checkpoint -> why it stays; none where it may go."""


def reasons_to_keep(
    records: Sequence[CheckpointRecord],
    lineage: Lineage,
    *,
    max_checkpoints: int,
    metric_mode: str | None = None,
    protected: Collection[str] = (),
) -> Reasons:
    """Why each of `records` stays.

    Args:
        records: all checkpoints of a directory, oldest first.
        lineage: of the run whose checkpoints are to be pruned.
        max_checkpoints: how many of its best stay. Where fewer have a metric, the newest fill the places.
        metric_mode: "min" or "max"; None takes what the newest was saved with.
        protected: names of others that stay, as resumed from.
    """
    own = [record for record in records if record.lineage.run == lineage.run]
    originals = [record for record in own if not record.is_copy]  # a copy takes nobody's place
    ranked = rank_records(originals, metric_mode)[:max_checkpoints]
    filling = [record for record in reversed(originals) if record not in ranked][: max_checkpoints - len(ranked)]
    newest = originals[-NUM_NEWEST_KEPT:]
    best = {*ranked, best_record(records, metric_mode)}  # of all runs together, as whoever asks for the best gets it
    found: dict[str, tuple[str, ...]] = {}
    for record in records:
        is_own = record.lineage.run == lineage.run
        is_resumed = is_own and record.sequence in lineage.kept_sequences
        why = {
            BEST: record in best,
            NEWEST: record in newest,
            RECENT: record in filling and record not in newest,
            RESUMED_FROM: is_resumed or record.name in protected,
            KEEP: record.keep and not record.is_copy,
            COPY: record.is_copy,
            OTHER_RUN: not is_own,
        }
        found[record.name] = tuple(reason for reason, holds in why.items() if holds)
    return found


def prune(records: Iterable[CheckpointRecord], reasons: Reasons) -> list[CheckpointRecord]:
    """Remove those of `records` that have no reason to stay, and return them.

    One that cannot be removed is warned of in the log, and is not among those returned.
    """
    doomed = [record for record in records if not reasons[record.name]]
    return [record for record in doomed if _is_removed(record.path)]


def newest_of_run(records: Iterable[CheckpointRecord], run: str | None) -> CheckpointRecord | None:
    """The checkpoint that was saved last of those of `run`; None where there is none."""
    return max((each for each in records if each.lineage.run == run), key=lambda each: each.sequence, default=None)


def _is_removed(path: Path) -> bool:
    discard_folder(path)
    return not path.exists()
