"""The schedules as functions: values worked out by hand, no jump, never above the peak, by steps and by the clock."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.training.schedule import learning_rate_factor

SCHEDULES = ["cosine", "linear", "constant", "wsd"]


@pytest.mark.parametrize(
    ("progress", "schedule", "settings", "expected"),
    [
        (0.0, "cosine", {"warmup_fraction": 0.1}, 0.0),
        (0.05, "cosine", {"warmup_fraction": 0.1}, 0.5),
        (0.1, "cosine", {"warmup_fraction": 0.1}, 1.0),
        (0.55, "cosine", {"warmup_fraction": 0.1}, 0.5),
        (1.0, "cosine", {"warmup_fraction": 0.1}, 0.0),
        (0.0, "cosine", {}, 1.0),
        (0.25, "cosine", {}, 0.5 + 0.25 * math.sqrt(2)),
        (0.55, "cosine", {"warmup_fraction": 0.1, "min_fraction": 0.1}, 0.55),
        (1.0, "cosine", {"warmup_fraction": 0.1, "min_fraction": 0.1}, 0.1),
        (0.05, "linear", {"warmup_fraction": 0.1}, 0.5),
        (0.1, "linear", {"warmup_fraction": 0.1}, 1.0),
        (0.325, "linear", {"warmup_fraction": 0.1}, 0.75),
        (1.0, "linear", {"warmup_fraction": 0.1}, 0.0),
        (0.325, "linear", {"warmup_fraction": 0.1, "min_fraction": 0.2}, 0.8),
        (0.05, "constant", {"warmup_fraction": 0.1}, 0.5),
        (0.1, "constant", {"warmup_fraction": 0.1}, 1.0),
        (1.0, "constant", {"warmup_fraction": 0.1, "min_fraction": 0.2}, 1.0),
        (0.05, "wsd", {"warmup_fraction": 0.1}, 0.5),
        (0.1, "wsd", {"warmup_fraction": 0.1}, 1.0),
        (0.8, "wsd", {"warmup_fraction": 0.1}, 1.0),
        (0.9, "wsd", {"warmup_fraction": 0.1}, 0.5),
        (1.0, "wsd", {"warmup_fraction": 0.1}, 0.0),
        (0.875, "wsd", {"decay_fraction": 0.5}, 0.25),
        (0.875, "wsd", {"decay_fraction": 0.5, "min_fraction": 0.2}, 0.4),
        (0.25, "wsd", {"decay_fraction": 1.0}, 0.75),
        (0.75, "wsd", {"warmup_fraction": 0.5, "decay_fraction": 0.9}, 0.5),
        (-1.0, "constant", {"warmup_fraction": 0.1}, 0.0),
        (2.0, "cosine", {"warmup_fraction": 0.1}, 0.0),
        # 10 of 100 steps.
        (0.05, "linear", {"step": 5, "warmup_steps": 10}, 0.5),
        (0.1, "linear", {"step": 10, "warmup_steps": 10}, 1.0),
        (0.325, "linear", {"step": 32.5, "warmup_steps": 10}, 0.75),
        # Half of the time gone after 10 steps, all of them warm-up: the descent takes the other half.
        (0.25, "linear", {"step": 5, "warmup_steps": 10}, 0.5),
        (0.75, "linear", {"step": 15, "warmup_steps": 10}, 0.5),
        # An epoch of unknown length: no progress is told before its end.
        (0.0, "cosine", {"step": 3, "warmup_steps": 10}, 0.3),
        (0.0, "cosine", {"step": 30, "warmup_steps": 10}, 1.0),
        # The run is shorter than its warm-up, or just as long.
        (1.0, "cosine", {"step": 8, "warmup_steps": 10}, 0.8),
        (1.0, "cosine", {"step": 10, "warmup_steps": 10}, 1.0),
        (0.5, "linear", {"step": 50, "warmup_steps": 0}, 0.5),
    ],
)
def test_the_factor_at_known_places(progress: float, schedule: str, settings: dict[str, Any], expected: float) -> None:
    assert learning_rate_factor(progress, schedule=schedule, **settings) == pytest.approx(expected, abs=1e-12)


@given(
    progress=st.floats(0, 1),
    move=st.floats(0, 0.01),
    schedule=st.sampled_from(SCHEDULES),
    warmup_fraction=st.floats(0.05, 0.6),
    decay_fraction=st.floats(0.1, 1.0),
    min_fraction=st.floats(0, 0.9),
    is_in_steps=st.booleans(),
)
def test_the_factor_has_no_jump_and_never_passes_its_peak(
    progress: float,
    move: float,
    schedule: str,
    warmup_fraction: float,
    decay_fraction: float,
    min_fraction: float,
    is_in_steps: bool,
) -> None:
    def factor(progress: float) -> float:
        warmup: dict[str, Any] = {"warmup_fraction": warmup_fraction}
        if is_in_steps:
            warmup = {"warmup_steps": 1000, "step": min(progress, 1.0) * 1000 / warmup_fraction}
        return learning_rate_factor(
            progress, schedule=schedule, decay_fraction=decay_fraction, min_fraction=min_fraction, **warmup
        )

    now, later = factor(progress), factor(progress + move)
    assert 0.0 <= now <= 1.0
    steepest = max(1 / warmup_fraction, 0.5 * math.pi / 0.1, 0.5 * math.pi / (1 - warmup_fraction))
    assert abs(now - later) <= steepest * move + 1e-9
    if progress + move < warmup_fraction - 1e-9:
        assert later >= now
    elif progress > warmup_fraction + 1e-9:
        assert min_fraction - 1e-12 <= later <= now + 1e-12


@given(schedule=st.sampled_from(SCHEDULES), warmup_steps=st.integers(1, 90), step=st.integers(0, 99))
def test_steps_and_their_share_of_a_run_bounded_by_steps_are_the_same_warmup(
    schedule: str, warmup_steps: int, step: int
) -> None:
    middle = step + 0.5
    in_steps = learning_rate_factor(middle / 100, schedule=schedule, step=middle, warmup_steps=warmup_steps)
    as_share = learning_rate_factor(middle / 100, schedule=schedule, warmup_fraction=warmup_steps / 100)
    assert in_steps == pytest.approx(as_share, abs=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_by_the_clock_warms_up_for_exactly_its_steps_and_then_only_descends(schedule: str) -> None:
    """Steps of 1 s, then of 3 s, then of half a second: the pace changes, the warm-up and the end do not."""
    seconds, rates = 0.0, []
    for step in range(240):
        seconds += 1.0 if step < 15 else 3.0 if step < 40 else 0.5
        rates.append(
            learning_rate_factor(seconds / 190.0, schedule=schedule, step=step + 0.5, warmup_steps=20, min_fraction=0.1)
        )
    assert rates[:20] == pytest.approx([(step + 0.5) / 20 for step in range(20)])
    assert all(later <= now + 1e-12 for now, later in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(1.0 if schedule == "constant" else 0.1, abs=1e-9)
