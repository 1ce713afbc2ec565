"""What a type accepts is checked, and told in words."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.settings import Accepts, Count, Share, check_settings, told_values


@dataclass(frozen=True, kw_only=True)
class Oven:
    """Settings of every kind."""

    heat: Annotated[float, Accepts(above=0, at_most=250, advice="180 suits most cakes.")] = 180
    trays: Count | None = None
    steam: Share = 0.0
    mode: Literal["fan", "grill"] | None = None
    door: bool = False
    times: Annotated[tuple[float, ...], Accepts(above=0, form="numbers of minutes, each")] | None = None
    size: Annotated[int | tuple[int, int], Accepts(at_least=1, form="one number or two, each")] = 4
    book: Path | None = None
    note: str = ""

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"heat": 250, "trays": 1, "steam": 0, "mode": "fan", "door": True},
        {"times": (), "size": (1, 2), "book": "cakes.txt", "note": "hot"}, {"times": (1, 2.5)},
    ],
)  # fmt: skip
def test_what_fits_is_accepted(settings: dict[str, Any]) -> None:
    Oven(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heat": 0}, "heat must be a number above 0 and at most 250, not 0. 180 suits most cakes."),
        ({"heat": True}, "heat must be a number above 0 and at most 250, not True. 180 suits most cakes."),
        ({"heat": -math.inf}, "heat must be a finite number above 0 and at most 250, not -inf. 180 suits most cakes."),
        ({"trays": 0}, "trays must be a whole number at least 1, or None, not 0."),
        ({"trays": 1.0}, "trays must be a whole number at least 1, or None, not 1.0."),
        ({"steam": 1}, "steam must be a number at least 0 and below 1, not 1."),
        ({"mode": "boil"}, "mode must be one of 'fan', 'grill', None, not 'boil'."),
        ({"mode": ["fan"]}, "mode must be one of 'fan', 'grill', None, not ['fan']."),
        ({"door": 1}, "door must be True or False, not 1."),
        ({"times": (5, 0)}, "times must be numbers of minutes, each above 0, or None, not (5, 0)."),
        ({"times": [5]}, "times must be numbers of minutes, each above 0, or None, not [5]."),
        ({"book": 3}, "book must be a path, or None, not 3."),
        ({"note": None}, "note must be text, not None."),
    ],
)
def test_what_does_not_is_told_with_what_would(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Oven(**settings)
    assert str(raised.value) == message


@pytest.mark.parametrize("size", [0, (1, 0), (1, 2, 3), (1,), 1.5, (1, True), "4"])
def test_a_size_is_one_number_or_two(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"^size must be "):
        Oven(size=size)


def test_ranges_in_words() -> None:
    assert told_values(Annotated[int, Accepts(at_least=2, at_most=2**24)]) == "a whole number from 2 to 16777216"
    assert told_values(Annotated[float, Accepts(below=0.5)] | None, none="none") == "a number below 0.5, or none"
    assert told_values(float) == "a number"
