"""The options of `pixel-llm checkpoints`. No torch is loaded by this module."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.settings import Count, check_settings

__all__ = ["CheckpointsOptions"]


@dataclass(frozen=True, kw_only=True)
class CheckpointsOptions:
    """List the checkpoints of a run: which is best, which is the latest, why each is kept, whether it is whole.

    Only the sizes of files are compared with what was saved, unless --verify reads them.
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, a folder of checkpoints, or one checkpoint."""
    verify: bool = False
    """Read every byte and compare it with what was saved. The exit status is 1 where a checkpoint is damaged."""
    prune: bool = False
    """Remove now what the next save of the run would remove. Damaged checkpoints, and those of other runs, stay."""
    dry_run: bool = False
    """With --prune: say what would be removed, and remove nothing."""
    max_checkpoints: Count | None = None
    """How many of the best are to be kept. Left out: as many as the run keeps."""
    json: bool = False
    """Print JSON, for scripts."""

    def __post_init__(self) -> None:
        check_settings(self, passed_over=["run"])
        if self.dry_run and not self.prune:
            raise ConfigError("dry_run=True says what prune=True would remove. Give both.")
