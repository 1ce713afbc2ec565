"""Which run a checkpoint is of, and which ones that run went on from: what pruning must know besides the metric.

A run has a random name, made when it begins and taken over by whoever resumes it. Each of its checkpoints says so in
its manifest, with the sequence numbers of those that the run was resumed from. The newest one's word counts, so that a
process that knows nothing but the folder, after a kill or a reboot, keeps what the one before it kept.

A preempted run is resumed from its newest checkpoint a hundred times, and a hundred checkpoints are not to be kept for
that: of those only the last one is. To go back to an older one is what a person does, and it is kept for good.
Layer 1, standard library only.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["NO_LINEAGE", "Lineage", "is_valid_in_manifest"]

_RUN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # it becomes a folder's name


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a run comes from."""

    run: str | None
    """Name of the run; None of one that was saved before runs had names."""
    resumed_from: int | None = None
    """Sequence number of the checkpoint that the run was resumed from last."""
    gone_back_to: tuple[int, ...] = ()
    """Sequence numbers of those that it was resumed from while it had newer ones."""

    @classmethod
    def new(cls) -> "Lineage":
        """That of a run which begins now."""
        return cls(run=secrets.token_hex(6))

    @classmethod
    def from_manifest(cls, fields: Mapping[str, Any]) -> "Lineage":
        """What the valid fields of a manifest tell."""
        return cls(
            run=fields.get("run"),
            resumed_from=fields.get("resumed_from"),
            gone_back_to=tuple(fields.get("gone_back_to", ())),
        )

    def to_manifest(self) -> dict[str, Any]:
        """The fields for a manifest."""
        return {"run": self.run, "resumed_from": self.resumed_from, "gone_back_to": list(self.gone_back_to)}

    def resumed(self, sequence: int, *, newest: int) -> "Lineage":
        """That of the same run once it goes on from the checkpoint of number `sequence`, its newest having `newest`."""
        has_newer = sequence < newest and sequence not in self.gone_back_to
        return Lineage(
            run=self.run,
            resumed_from=sequence,
            gone_back_to=(*self.gone_back_to, sequence) if has_newer else self.gone_back_to,
        )

    @property
    def kept_sequences(self) -> frozenset[int]:
        """Numbers of the run's checkpoints that are kept because it was resumed from them."""
        last = () if self.resumed_from is None else (self.resumed_from,)
        return frozenset((*last, *self.gone_back_to))

    @property
    def last_sequence(self) -> int:
        """The highest number that is named here; 0 where none is."""
        return max(self.kept_sequences, default=0)


NO_LINEAGE = Lineage(run=None)
"""Of a checkpoint that was saved before runs had names."""


def is_valid_in_manifest(fields: Mapping[str, Any]) -> bool:
    """Whether those fields of a manifest, which may be missing, are such as `to_manifest` gives."""
    run, resumed_from, gone_back_to = fields.get("run"), fields.get("resumed_from"), fields.get("gone_back_to", [])
    return (
        (run is None or (isinstance(run, str) and _RUN_NAME.fullmatch(run) is not None))
        and (resumed_from is None or type(resumed_from) is int)
        and isinstance(gone_back_to, list)
        and all(type(each) is int for each in gone_back_to)
    )
