"""The model: pixels and token ids in, logits and captions out. Names load on first use."""

from typing import TYPE_CHECKING

from systems.pixel_llm.lazy import lazy_names

if TYPE_CHECKING:
    from systems.pixel_llm.models.config import PRESETS, PixelLLMConfig
    from systems.pixel_llm.models.factory import create_pixel_llm
    from systems.pixel_llm.models.pixel_llm import PixelLLM
    from systems.pixel_llm.weights_file import load_weights_file

__all__ = ["PRESETS", "PixelLLM", "PixelLLMConfig", "create_pixel_llm", "load_weights_file"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "PRESETS": "systems.pixel_llm.models.config",
        "PixelLLM": "systems.pixel_llm.models.pixel_llm",
        "PixelLLMConfig": "systems.pixel_llm.models.config",
        "create_pixel_llm": "systems.pixel_llm.models.factory",
        "load_weights_file": "systems.pixel_llm.weights_file",
    },
)
