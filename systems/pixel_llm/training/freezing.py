"""Parts of a model that do not learn: named by pattern, held as they are for the whole training.

A frozen parameter takes no gradient and is not in the default optimizer. A module that is frozen as a whole runs as it
does when captioning, without dropout: noise in what cannot adapt to it would only blur what the rest learns from. Where
all that comes before a place is frozen, as with the whole encoder, torch records nothing of it and has no backward pass
to make, so that a step is the faster for it.
"""

from collections.abc import Sequence

from torch import nn

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.parts import named_parameters_of

__all__ = ["freeze", "hold_still"]


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Freeze the parameters of `model` that the patterns take (see `parts.py`). They stay frozen: nothing undoes it.

    Returns:
        The largest modules that are frozen as a whole by it, for `hold_still`.

    Raises:
        ConfigError: a pattern takes nothing, or nothing is left to train. Nothing is frozen then.
    """
    chosen = {
        id(parameter): parameter
        for pattern in patterns
        for parameter in named_parameters_of(model, pattern, setting="freeze").values()
    }
    if chosen and all(id(parameter) in chosen or not parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"freeze={','.join(patterns)!r} leaves nothing to train. Name fewer parts.")
    for parameter in chosen.values():
        parameter.requires_grad_(False)
        parameter.grad = None  # an optimizer of the user's would still apply it
    return _wholly_of(model, set(chosen))


def hold_still(modules: Sequence[nn.Module]) -> None:
    """Put `modules` into eval mode, out of which `model.train()` takes them with the rest."""
    for module in modules:
        if module.training:
            module.eval()


def _wholly_of(module: nn.Module, chosen: set[int]) -> list[nn.Module]:
    """The largest modules in `module` all of whose parameters, one or more, are among `chosen`."""
    own = [id(parameter) for parameter in module.parameters()]
    if own and chosen.issuperset(own):
        return [module]
    return [found for child in module.children() for found in _wholly_of(child, chosen)]
