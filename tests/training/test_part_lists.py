"""Lists of parts as the words of a command line, and what is no such list."""

from typing import Any

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training import TrainingOptions


@pytest.mark.parametrize(
    ("value", "text", "names"),
    [
        (None, None, ()),
        ("", None, ()),
        ("encoder", "encoder", ("encoder",)),
        ("encoder.stem*, decoder.norm", "encoder.stem*,decoder.norm", ("encoder.stem*", "decoder.norm")),
        (["encoder", "decoder.norm"], "encoder,decoder.norm", ("encoder", "decoder.norm")),
        ([], None, ()),
    ],
)
def test_names_as_text_or_as_a_list(value: Any, text: str | None, names: tuple[str, ...]) -> None:
    options = TrainingOptions(freeze=value)
    assert (options.freeze, options.frozen_parts) == (text, names)
    assert options.replaced(seed=1).freeze == text


@pytest.mark.parametrize(
    ("value", "rates"),
    [
        (None, {}),
        ("", {}),
        ("encoder=1e-4", {"encoder": 1e-4}),
        ("encoder=1e-4, decoder.norm = 0.5", {"encoder": 1e-4, "decoder.norm": 0.5}),
        ({"encoder": 0.1, "decoder.norm": 1e-7}, {"encoder": 0.1, "decoder.norm": 1e-7}),
    ],
)
def test_rates_as_text_or_as_a_dict(value: Any, rates: dict[str, float]) -> None:
    options = TrainingOptions(learning_rates=value)
    assert options.part_learning_rates == rates
    assert list(options.part_learning_rates) == list(rates)
    assert options.replaced(seed=1).part_learning_rates == rates


@pytest.mark.parametrize("value", ["encoder,", ",", "a,,b", ["encoder", ""], 3, ["encoder", 3]])
def test_what_is_no_list_of_names(value: Any) -> None:
    with pytest.raises(ConfigError, match="freeze must be names of parts"):
        TrainingOptions(freeze=value)


@pytest.mark.parametrize(
    "value",
    ["encoder", "encoder=", "=1e-4", "encoder=fast", "encoder=0", "encoder=-1", "encoder=nan", "encoder=inf",
     "encoder=1e-4,", {"encoder": 0}, {"": 0.1}],
)  # fmt: skip
def test_what_is_no_list_of_rates(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"learning_rates must be PART=RATE .* each rate a number above 0"):
        TrainingOptions(learning_rates=value)


def test_a_part_twice_and_a_value_of_another_kind() -> None:
    with pytest.raises(ConfigError, match="learning_rates gives 'encoder' twice"):
        TrainingOptions(learning_rates="encoder=1e-4,encoder=1e-3")
    with pytest.raises(ConfigError, match=r"learning_rates must be PART=RATE .*, or a dict .*, not 3"):
        TrainingOptions(learning_rates=3)  # type: ignore[arg-type]
