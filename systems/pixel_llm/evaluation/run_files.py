"""The files of a run, by name: options, measurements, checkpoints, pictures, and the page that shows them all.

Any of them may be missing: `bad_pictures.jsonl` is there only where pictures could not be read, and a run that was
stopped has what it had come to.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["OPTIONS_FILE", "RunFolder"]

OPTIONS_FILE = "options.toml"


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of one run are."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, one folder each."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Log of measurements."""
        return self.path / "metrics.jsonl"

    @property
    def options(self) -> Path:
        """The options as they were resolved."""
        return self.path / OPTIONS_FILE

    @property
    def bad_pictures(self) -> Path:
        """The pictures that could not be read; there only if there are such."""
        return self.path / "bad_pictures.jsonl"

    @property
    def samples(self) -> Path:
        """Contact sheet of validation pictures."""
        return self.path / "samples.png"

    @property
    def curve(self) -> Path:
        """Losses over the run."""
        return self.path / "training_curve.png"

    @property
    def pictures(self) -> Path:
        """Pictures that are nowhere else: those that the demo draws for its scores."""
        return self.path / "pictures"

    @property
    def panel(self) -> Path:
        """What was said of the same few pictures at each validation."""
        return self.path / "panel.jsonl"

    @property
    def environment(self) -> Path:
        """The machine and the versions that trained."""
        return self.path / "environment.json"

    @property
    def evaluation(self) -> Path:
        """Folder of the captions of validation pictures and their scores."""
        return self.path / "evaluation"

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.path / "report.html"
