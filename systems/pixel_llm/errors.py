"""The errors that a person can meet, each saying what was expected, what was found, where, and what to do next.

The command line prints their message without a traceback; a library user catches `PixelLLMError` for all of them.
Layer 0: standard library only.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "LoaderError",
    "NotComputedError",
    "NotSavedError",
    "PixelLLMError",
    "TrainingError",
    "nearest_name_hint",
]


class PixelLLMError(Exception):
    """Base of every error that Pixel LLM raises for something a person can put right."""


class DatasetError(PixelLLMError):
    """A folder, manifest, picture or caption cannot be used; the message names the file and the cure."""


class LoaderError(DatasetError):
    """What reads the data died or gives no answer; the message names the worker or the pictures, and the cure."""


class ConfigError(PixelLLMError, ValueError):
    """A setting is unknown, out of range, or clashes with another; the message names every setting involved."""


class CheckpointError(PixelLLMError):
    """A checkpoint is missing, damaged, or does not fit the model; the message names the folder and the cure."""


class NotSavedError(CheckpointError):
    """The disk did not take a checkpoint: full, failing, or not to be written to. A later save may go well."""


class NotComputedError(PixelLLMError):
    """A score cannot be computed here; the message says what to install or to pass."""


class TrainingError(PixelLLMError):
    """Training cannot go on (a loss that is not a number); the message names the step and what to change."""


def nearest_name_hint(name: str, known: Iterable[str]) -> str:
    """A sentence naming the known name nearest to `name`, or, where none is near, all of them; fit for a terminal.

    >>> nearest_name_hint("learning_rat", ["learning_rate", "seed"])
    "Did you mean 'learning_rate'?"
    """
    candidates = sorted(known)
    close = difflib.get_close_matches(name, candidates, n=1)
    told = (each if each.isprintable() else repr(each) for each in candidates)
    return f"Did you mean {close[0]!r}?" if close else f"Known names: {', '.join(told)}."
