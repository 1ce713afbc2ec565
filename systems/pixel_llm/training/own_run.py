"""The run that a manager of checkpoints saves for: not decided at first, then begun anew or gone on with.

State with no disk behind it: what is there is handed in, read from the folder each time. What must outlive the process
is the lineage, which goes into each manifest (`checkpoint_lineage.py`). No torch.
"""

from collections.abc import Iterable

from systems.pixel_llm.checkpoint_folder import CheckpointRecord, CheckpointScan
from systems.pixel_llm.checkpoint_lineage import Lineage
from systems.pixel_llm.checkpoint_retention import newest_of_run

__all__ = ["OwnRun"]


class OwnRun:
    """Which run is saved, and which of its checkpoints this process must not prune.

    Attributes:
        protected: names of those.
    """

    def __init__(self) -> None:
        self.protected: set[str] = set()
        self._lineage: Lineage | None = None
        self._last_sequence = 0

    def begin(self) -> None:
        """It is a run of its own."""
        self._lineage = Lineage.new()

    def resume(self, record: CheckpointRecord, there: Iterable[CheckpointRecord]) -> None:
        """It goes on from `record`, with `there` in the folder."""
        newest = _newest(record, there)
        self._lineage = newest.lineage.resumed(record.sequence, newest=newest.sequence)
        self.protected.add(record.name)

    def adopt(self, record: CheckpointRecord, there: Iterable[CheckpointRecord]) -> None:
        """`record` was loaded: whoever loads before the first save goes on with that run."""
        if self._lineage is None:
            self._lineage = _newest(record, there).lineage

    def of_next_save(self, scan: CheckpointScan) -> tuple[Lineage, int]:
        """Lineage and sequence number of the next checkpoint: higher than any that is there, was used, or is named."""
        named = 0 if self._lineage is None else self._lineage.last_sequence
        return self._lineage or Lineage.new(), max(scan.last_sequence, self._last_sequence, named) + 1

    def note_saved(self, lineage: Lineage, sequence: int) -> None:
        """What `of_next_save` gave is on the disk."""
        self._lineage, self._last_sequence = lineage, sequence


def _newest(record: CheckpointRecord, there: Iterable[CheckpointRecord]) -> CheckpointRecord:
    return newest_of_run((record, *there), record.lineage.run) or record
