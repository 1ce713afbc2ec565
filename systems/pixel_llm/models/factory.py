"""`create_pixel_llm`: names and defaults -> config -> an initialised model."""

from typing import Any

from systems.pixel_llm.errors import ConfigError, nearest_name_hint
from systems.pixel_llm.models.config import PRESETS, PixelLLMConfig
from systems.pixel_llm.models.pixel_llm import PixelLLM

__all__ = ["create_pixel_llm"]


def create_pixel_llm(preset: str | None = None, **settings: Any) -> PixelLLM:
    """A model with fresh weights, drawn from torch's global generator (`torch.manual_seed` makes them the same again).

    Args:
        preset: "tiny", "small" or "base": about 3M, 20M and 90M parameters; the settings then change single fields.
        **settings: the fields of `PixelLLMConfig`, such as `image_size`, `patch_size`, `vision_embed_dim`,
            `vocab_size`.

    Raises:
        ConfigError: a name is unknown, a value out of range, or two values clash.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"Unknown preset {preset!r}. {nearest_name_hint(preset, PRESETS)}")
    defaults = {} if preset is None else PRESETS[preset]
    return PixelLLM(PixelLLMConfig.from_dict(defaults | settings))
