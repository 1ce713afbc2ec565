"""`--device`: a name to a device that is there."""

import torch

from systems.pixel_llm.errors import ConfigError

__all__ = ["chosen_device"]


def chosen_device(name: str | None) -> torch.device:
    """The device of that name; left out: a GPU where there is one.

    Raises:
        ConfigError: torch knows no such device, or this machine has none.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: torch knows no such device. Use cpu, cuda or cuda:NUMBER.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices. Use cpu.")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: training runs on cpu or cuda.")
    return device
