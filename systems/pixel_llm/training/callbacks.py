"""What may be given as a callback: a callable that takes every event, or an object with methods for some of them.

The methods are `on_step`, `on_validation`, `on_checkpoint` and `on_epoch_end`; each takes its event, which cannot be
changed. A method of any other name that begins with `on_` is an error: it would never be called.
"""

from collections.abc import Callable
from typing import Any

from systems.pixel_llm.errors import ConfigError, nearest_name_hint
from systems.pixel_llm.training.events import CheckpointEvent, EpochEvent, Event, StepEvent, ValidationEvent

__all__ = ["METHODS", "Callback", "Listener", "listener_of", "name_of"]

Listener = Callable[[Event], None]
"""Takes every event."""
Callback = Listener | object
"""A listener, or an object with methods of `METHODS`."""

METHODS: dict[str, type[Event]] = {
    "on_step": StepEvent,
    "on_validation": ValidationEvent,
    "on_checkpoint": CheckpointEvent,
    "on_epoch_end": EpochEvent,
}
"""Method of a callback -> the event that it is given."""


class _Methods:
    """Passes each event on to the method that it is for."""

    def __init__(self, callback: object, names: list[str]) -> None:
        self.callback = callback
        self._methods = {METHODS[name]: getattr(callback, name) for name in names}

    def __call__(self, event: Event) -> None:
        if (method := self._methods.get(type(event))) is not None:
            method(event)


def listener_of(callback: Callback) -> Listener:
    """What is to be given every event for `callback` to get those that it takes.

    Raises:
        ConfigError: it is neither a callable nor has one of the methods, is both, has a method of an unknown name, or
            is a class.
    """
    name = name_of(callback)
    if isinstance(callback, type):
        raise ConfigError(f"The callback {name} is a class. Give an object of it: callbacks=[{name}()].")
    names = [each for each in dir(callback) if each.startswith("on_") and callable(getattr(callback, each))]
    for each in names:
        if each not in METHODS:
            raise ConfigError(
                f"The callback {name} has a method {each!r} that is never called. {nearest_name_hint(each, METHODS)}"
            )
    if callable(callback):
        if names:
            raise ConfigError(
                f"The callback {name} can be called with every event and has {names[0]!r}. Leave one of the two out."
            )
        return callback
    if not names:
        raise ConfigError(
            f"The callback {name} is neither a callable that takes an event nor has one of the methods "
            f"{', '.join(METHODS)}."
        )
    return _Methods(callback, names)


def name_of(callback: Any) -> str:
    """As its author knows it."""
    if isinstance(callback, _Methods):
        return name_of(callback.callback)
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))
