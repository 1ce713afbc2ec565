"""Inference: weights and pictures in, words out. Names load on first use."""

from typing import TYPE_CHECKING

from systems.pixel_llm.lazy import lazy_names

if TYPE_CHECKING:
    from systems.pixel_llm.inference.captioner import Captioner
    from systems.pixel_llm.inference.export import ExportedModel, export_model
    from systems.pixel_llm.inference.find import find_checkpoint
    from systems.pixel_llm.inference.picture_files import CaptionedPicture, UnreadPicture, caption_files

__all__ = [
    "CaptionedPicture",
    "Captioner",
    "ExportedModel",
    "UnreadPicture",
    "caption_files",
    "export_model",
    "find_checkpoint",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CaptionedPicture": "systems.pixel_llm.inference.picture_files",
        "UnreadPicture": "systems.pixel_llm.inference.picture_files",
        "caption_files": "systems.pixel_llm.inference.picture_files",
        "Captioner": "systems.pixel_llm.inference.captioner",
        "ExportedModel": "systems.pixel_llm.inference.export",
        "export_model": "systems.pixel_llm.inference.export",
        "find_checkpoint": "systems.pixel_llm.inference.find",
    },
)
