"""Where the model to be trained is: inside which wrappers, and on which device."""

import torch
from torch import nn

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models import PixelLLM

__all__ = ["captioner_in", "choose_device", "usable_device"]


def captioner_in(model: nn.Module) -> PixelLLM:
    """The PixelLLM inside a compiled or distributed wrapper.

    Raises:
        ConfigError: there is none.
    """
    inner = model
    while not isinstance(inner, PixelLLM):
        wrapped = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if not isinstance(wrapped, nn.Module):
            raise ConfigError(
                f"Trainer trains a PixelLLM (create_pixel_llm makes one), not a {type(model).__name__}. For other "
                "models use CheckpointManager, CaptionLoss and MetricsTracker in a loop of your own."
            )
        inner = wrapped
    return inner


def choose_device(device: torch.device | str | None, model: nn.Module) -> torch.device:
    """`device`, else that of the model; a GPU where there is one and the model is on the processor."""
    if device is not None:
        return torch.device(device)
    current = next(model.parameters()).device
    if current.type == "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return current


def usable_device(device: torch.device | str | None) -> torch.device | None:
    """The device that is named; None for None.

    Raises:
        ConfigError: torch knows none of this name, or it is a GPU and none is found.
    """
    if device is None:
        return None
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device!r} is no device of torch ({error}).") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={str(device)!r}, and torch finds no GPU here. Pass device='cpu' or leave it out.")
    return device
