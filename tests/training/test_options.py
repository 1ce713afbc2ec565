"""TrainingOptions: unknown names and values out of range are told with what would be right."""

import math
from typing import Any

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training import TrainingOptions


def test_the_defaults_are_valid_and_frozen() -> None:
    options = TrainingOptions()
    with pytest.raises(AttributeError):
        options.seed = 3  # type: ignore[misc]
    assert options.replaced(seed=3).seed == 3
    assert options.seed == 0


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Unknown training setting 'learning_rat'. Did you mean 'learning_rate'?"):
        TrainingOptions().replaced(learning_rat=0.1)
    with pytest.raises(ConfigError, match=r"Known names: .*weight_decay"):
        TrainingOptions().replaced(zzz=1)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", math.nan, "above 0"),
        ("learning_rate", math.inf, "above 0"),
        ("weight_decay", -0.1, "at least 0"),
        ("warmup_fraction", 1.0, "at least 0 and below 1"),
        ("warmup_steps", -1, "at least 0"),
        ("warmup_steps", 1.5, "a whole number"),
        ("decay_fraction", 0, "above 0 and at most 1"),
        ("decay_fraction", 1.01, "above 0 and at most 1"),
        ("min_learning_rate_fraction", -0.1, "at least 0 and below 1"),
        ("min_learning_rate_fraction", 1, "at least 0 and below 1"),
        ("save_every_steps", 0, "at least 1"),
        ("save_every_steps", 2.5, "a whole number"),
        ("label_smoothing", 1.0, "at least 0 and below 1"),
        ("label_smoothing", -0.1, "at least 0 and below 1"),
        ("max_grad_norm", 0, "above 0"),
        ("max_minutes", 0, "above 0"),
        ("max_steps", 0, "at least 1"),
        ("max_checkpoints", 0, "at least 1"),
        ("seed", -1, "at least 0"),
        ("schedule", "wave", "one of 'cosine', 'linear', 'constant', 'wsd', None"),
        ("precision", "fp8", "one of 'auto', 'fp32', 'bf16', 'fp16'"),
        ("gradient_accumulation_steps", 0, "a whole number at least 1"),
        ("max_bad_steps", 0, "a whole number at least 1"),
        ("progress", "on", "one of 'auto', 'bar', 'off'"),
        ("learning_rate", "1e-3", "a number above 0"),
        ("learning_rate", None, "a number above 0"),
        ("weight_decay", True, "a number at least 0"),
        ("max_steps", 2.5, "a whole number at least 1"),
        ("max_checkpoints", None, "a whole number at least 1"),
        ("seed", 1.0, "a whole number at least 0"),
        ("gradient_checkpointing", 1, "True or False"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_does(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingOptions(**{name: value})
    assert str(caught.value).startswith(f"{name} must be ")
    assert wanted in str(caught.value)
    assert str(caught.value).endswith(f"not {value!r}.")


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_decay": 0, "warmup_fraction": 0, "seed": 0},
        {"max_grad_norm": None, "max_steps": None, "max_minutes": None, "schedule": None},
        {"max_steps": 1, "max_checkpoints": 1, "max_minutes": 0.1, "learning_rate": 1},
    ],
)
def test_the_edges_of_the_ranges_are_allowed(settings: dict[str, Any]) -> None:
    options = TrainingOptions(**settings)
    assert {name: getattr(options, name) for name in settings} == settings


def test_two_lengths_of_one_warmup_clash() -> None:
    with pytest.raises(ConfigError, match=r"warmup_fraction=0\.1 and warmup_steps=5 both say how long the warm-up is"):
        TrainingOptions(warmup_fraction=0.1, warmup_steps=5)
    with pytest.raises(ConfigError, match=r"warmup_steps=5 leaves nothing of max_steps=5: it must be below"):
        TrainingOptions(warmup_steps=5, max_steps=5)
    assert TrainingOptions().schedule_settings["warmup_fraction"] == 0.05
    assert TrainingOptions(warmup_steps=0).schedule_settings["warmup_fraction"] is None
