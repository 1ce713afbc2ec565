"""Inference: weights and pictures in, words out. Names load on first use."""

from typing import TYPE_CHECKING

from systems.pixel_llm.lazy import lazy_names

if TYPE_CHECKING:
    from systems.pixel_llm.inference.captioner import Captioner
    from systems.pixel_llm.inference.export import ExportedModel, export_model
    from systems.pixel_llm.inference.find import find_checkpoint

__all__ = ["Captioner", "ExportedModel", "export_model", "find_checkpoint"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Captioner": "systems.pixel_llm.inference.captioner",
        "ExportedModel": "systems.pixel_llm.inference.export",
        "export_model": "systems.pixel_llm.inference.export",
        "find_checkpoint": "systems.pixel_llm.inference.find",
    },
)
