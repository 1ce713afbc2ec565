"""Data: files on disk in, batches of pictures and captions out. Knows nothing of models.

The public names, each loaded on first use.
"""

from typing import TYPE_CHECKING

from systems.pixel_llm.lazy import lazy_names

if TYPE_CHECKING:
    from systems.pixel_llm.data.collate import BadPicture, CaptionBatch, collate_captions
    from systems.pixel_llm.data.dataset import ImageCaptionDataset
    from systems.pixel_llm.data.formats import find_format
    from systems.pixel_llm.data.images import open_image
    from systems.pixel_llm.data.loader import make_loader
    from systems.pixel_llm.data.options import DataOptions
    from systems.pixel_llm.data.samples import Sample, read_samples
    from systems.pixel_llm.data.shapes import ShapesDataset
    from systems.pixel_llm.data.split import split_samples
    from systems.pixel_llm.data.transforms import make_transform

__all__ = [
    "BadPicture",
    "CaptionBatch",
    "DataOptions",
    "ImageCaptionDataset",
    "Sample",
    "ShapesDataset",
    "collate_captions",
    "find_format",
    "make_loader",
    "make_transform",
    "open_image",
    "read_samples",
    "split_samples",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BadPicture": "systems.pixel_llm.data.collate",
        "CaptionBatch": "systems.pixel_llm.data.collate",
        "DataOptions": "systems.pixel_llm.data.options",
        "ImageCaptionDataset": "systems.pixel_llm.data.dataset",
        "Sample": "systems.pixel_llm.data.samples",
        "ShapesDataset": "systems.pixel_llm.data.shapes",
        "collate_captions": "systems.pixel_llm.data.collate",
        "find_format": "systems.pixel_llm.data.formats",
        "make_loader": "systems.pixel_llm.data.loader",
        "make_transform": "systems.pixel_llm.data.transforms",
        "open_image": "systems.pixel_llm.data.images",
        "read_samples": "systems.pixel_llm.data.samples",
        "split_samples": "systems.pixel_llm.data.split",
    },
)
