"""What the best checkpoint of a run is judged by, and when captions are scored for it.

The loss on validation data says how likely the references are; it rises again when a model learns a small set by heart,
while what the model says of new pictures may still get better. So where a scorer is given, which captions pictures and
compares, the best checkpoint follows its score.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training.options import TrainingOptions

__all__ = ["Judging", "Scorer"]

Scorer = Callable[[PixelLLM, Callable[[], bool]], Mapping[str, float] | None]
"""Given the model and whether a stop was requested (to be asked now and then): scores by name, all the better the
higher, or None where it stopped."""


class Judging:
    """The metric of a run's checkpoints.

    Attributes:
        scorer: what scores captions; None where nothing does.
        metric_name: `cider_d`, `val_loss` or, where there is nothing to validate on, `train_loss`.

    Raises:
        ConfigError: the metric asked for is one that nothing measures.
    """

    def __init__(self, options: TrainingOptions, scorer: Scorer | None, *, has_validation: bool) -> None:
        self._every = options.score_every
        self.scorer = scorer if has_validation and self._every else None
        if options.metric == "cider_d" and self.scorer is None:
            raise ConfigError(
                "metric='cider_d' needs captions to be scored: validation pictures, score_every of at least 1 and a "
                "scorer (the command line brings one). Or leave metric out."
            )
        follows_score = options.metric == "cider_d" or (options.metric == "auto" and self.scorer is not None)
        self.metric_name = "cider_d" if follows_score else "val_loss" if has_validation else "train_loss"

    @property
    def metric_mode(self) -> Literal["min", "max"]:
        """Whether lower or higher is better."""
        return "max" if self.metric_name == "cider_d" else "min"

    def is_due(self, num_validations: int, *, is_last: bool) -> bool:
        """Whether captions are scored beside the validation with this number, counted from 1. The last one always."""
        return self.scorer is not None and (is_last or num_validations % self._every == 0)
