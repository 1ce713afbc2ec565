"""When a run has stopped getting better: the rule, and the run that ends by it, also after a resume."""

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.early_stopping import is_out_of_patience


@pytest.mark.parametrize(
    ("values", "mode", "patience", "min_delta", "expected"),
    [
        ([], "min", 1, 0.0, False),
        ([3.0], "min", 1, 0.0, False),
        ([3.0, 2.0, 1.0], "min", 1, 0.0, False),
        ([3.0, 3.0], "min", 1, 0.0, True),
        ([3.0, 2.0, 2.5, 2.4], "min", 2, 0.0, True),
        ([3.0, 2.0, 2.5, 2.4], "min", 3, 0.0, False),
        ([3.0, 2.9, 2.8, 2.7], "min", 3, 0.5, True),
        ([3.0, 2.9, 2.8, 2.4], "min", 3, 0.5, False),  # small gains add up against the same best
        ([0.1, 0.3, 0.2], "max", 1, 0.0, True),
        ([0.1, 0.2, 0.3], "max", 1, 0.0, False),
        ([0.1, float("nan"), float("nan")], "max", 2, 0.0, True),
    ],
)
def test_the_rule(values, mode, patience, min_delta, expected):
    assert is_out_of_patience(values, mode=mode, patience=patience, min_delta=min_delta) is expected


def test_a_run_ends_by_it(tiny_trainer, shapes_loader):
    # With a rate this small nothing gets better by the least gain asked for.
    settings = {
        "val_loader": shapes_loader(4, shuffle=False), "early_stopping_patience": 2, "early_stopping_min_delta": 0.1,
        "learning_rate": 1e-9,
    }  # fmt: skip
    trainer = tiny_trainer(**settings)
    history = trainer.train(20)
    assert (trainer.stop_reason, len(history["val_losses"]), trainer.state.epoch) == ("early_stopping", 3, 3)
    again = tiny_trainer(**settings)
    assert again.train(20, resume_from="epoch_3") == history
    assert again.stop_reason == "early_stopping"
    more = tiny_trainer(**settings | {"early_stopping_patience": 4})
    assert len(more.train(20, resume_from="epoch_3")["val_losses"]) == 5


@pytest.mark.parametrize(("name", "value"), [("early_stopping_patience", 0), ("early_stopping_min_delta", -1.0)])
def test_a_bad_value_is_named(tiny_trainer, name, value):
    with pytest.raises(ConfigError, match=f"{name} must be"):
        tiny_trainer(**{name: value})
