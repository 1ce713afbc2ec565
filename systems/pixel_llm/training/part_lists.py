"""Lists of parts of a model as one word of a command line: `encoder,decoder.norm` and `encoder=1e-4,decoder=5e-4`.

A setting keeps its text, which a flag and a settings file can hold; in Python a list and a dict may be given for it.
Which parts a model has is not known here. No torch is loaded by this module.
"""

import math
from collections.abc import Mapping, Sequence

from systems.pixel_llm.errors import ConfigError

__all__ = ["FORM_OF_NAMES", "FORM_OF_RATES", "names_of", "rates_of", "spelled_names", "spelled_rates"]

FORM_OF_NAMES = "names of parts with commas between them"
FORM_OF_RATES = "PART=RATE with commas between them, each rate a number above 0"


def spelled_names(names: str | Sequence[str] | None) -> str | None:
    """The text of `freeze`, checked; None where nothing is named.

    Raises:
        ConfigError: it is no list of names.
    """
    if names is not None and not isinstance(names, str):
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"freeze must be {FORM_OF_NAMES}, or a list of them, not {names!r}.")
        names = ",".join(names)
    if not names:
        return None
    return ",".join(names_of(names))


def names_of(text: str | None) -> tuple[str, ...]:
    """The names in a checked or unchecked text.

    Raises:
        ConfigError: there is nothing before, between or after commas.
    """
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if not all(names):
        raise ConfigError(f"freeze must be {FORM_OF_NAMES}, such as encoder,decoder.norm, not {text!r}.")
    return names


def spelled_rates(rates: str | Mapping[str, float] | None) -> str | None:
    """The text of `learning_rates`, checked; None where nothing is named.

    Raises:
        ConfigError: it is no list of parts with a rate above 0 each.
    """
    if isinstance(rates, Mapping):
        rates = ",".join(f"{name}={rate!r}" for name, rate in rates.items())
    if rates is not None and not isinstance(rates, str):
        raise ConfigError(f"learning_rates must be {FORM_OF_RATES}, or a dict of parts and rates, not {rates!r}.")
    rates_of(rates)
    return rates or None


def rates_of(text: str | None) -> dict[str, float]:
    """Part -> rate, in the order of the text.

    Raises:
        ConfigError: an entry is not PART=RATE, with a rate above 0, or a part comes twice.
    """
    rates: dict[str, float] = {}
    for entry in text.split(",") if text else ():
        name, equals, number = (word.strip() for word in entry.partition("="))
        try:
            rate = float(number)
        except ValueError:
            rate = math.nan
        if not (name and equals and 0 < rate < math.inf):
            raise ConfigError(
                f"learning_rates must be {FORM_OF_RATES}, such as encoder=1e-4,decoder=5e-4, not {entry!r}."
            )
        if name in rates:
            raise ConfigError(f"learning_rates gives {name!r} twice: {text!r}.")
        rates[name] = rate
    return rates
