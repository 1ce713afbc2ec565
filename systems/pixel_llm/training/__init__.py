"""Training: a model and loaders in, learned weights, a history and checkpoints out.

The public names, each loaded on first use. `ImageCaptionDataset` lives in `systems.pixel_llm.data` and is offered here
too, beside the Trainer it feeds.
"""

from typing import TYPE_CHECKING

from systems.pixel_llm.lazy import lazy_names

if TYPE_CHECKING:
    from systems.pixel_llm.data.dataset import ImageCaptionDataset
    from systems.pixel_llm.training.batch_size_search import find_batch_size
    from systems.pixel_llm.training.checkpoint import CheckpointManager
    from systems.pixel_llm.training.loss import CaptionLoss
    from systems.pixel_llm.training.metrics_tracker import MetricsTracker
    from systems.pixel_llm.training.options import TrainingOptions
    from systems.pixel_llm.training.trainer import Trainer

__all__ = [
    "CaptionLoss",
    "CheckpointManager",
    "ImageCaptionDataset",
    "MetricsTracker",
    "Trainer",
    "TrainingOptions",
    "find_batch_size",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CaptionLoss": "systems.pixel_llm.training.loss",
        "CheckpointManager": "systems.pixel_llm.training.checkpoint",
        "ImageCaptionDataset": "systems.pixel_llm.data.dataset",
        "MetricsTracker": "systems.pixel_llm.training.metrics_tracker",
        "Trainer": "systems.pixel_llm.training.trainer",
        "TrainingOptions": "systems.pixel_llm.training.options",
        "find_batch_size": "systems.pixel_llm.training.batch_size_search",
    },
)
