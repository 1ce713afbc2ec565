"""Curves for a page: every point in the drawing, round ticks, no spike lost to thinning."""

import math
import re

import pytest

from systems.pixel_llm.evaluation.line_chart import (
    CHART_HEIGHT,
    CHART_WIDTH,
    MAX_POINTS,
    Curve,
    line_chart,
    short_number,
)


def places(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@pytest.mark.parametrize(
    "values",
    [
        [3.0],
        [0.0],
        [2.0, 2.0],
        [5.0, 1.0],
        [1e-4, 5e-4, 0.0],
        [-1.0, 4.0],
        [-3e-4],
        [-2.0, -1.0],
        [900.0, 0.01],
        [1e9, 1.0],
        [1e-9, 2e-9],
    ],
    ids=str,
)
@pytest.mark.parametrize("from_zero", [True, False])
def test_every_point_and_every_tick_lies_in_the_drawing(values, from_zero):
    chart = line_chart("loss", [Curve(name="a", points=list(enumerate(values)))], from_zero=from_zero)
    drawn = places(chart.curves[0].path)
    assert len(drawn) == len(values)
    for x, y in (*drawn, *((0.0, y) for y, _ in chart.y_ticks), *((x, 0.0) for x, _ in chart.x_ticks)):
        assert 0 <= x <= CHART_WIDTH
        assert 0 <= y <= CHART_HEIGHT
    # A greater value is never drawn lower.
    assert [y for _, y in sorted(zip(values, (-y for _, y in drawn), strict=True))] == sorted(-y for _, y in drawn)
    assert 1 <= len(chart.y_ticks) <= 11
    if from_zero:
        assert "0" in {text for _, text in chart.y_ticks}
    assert len({text for _, text in chart.y_ticks}) == len(chart.y_ticks)


def test_a_long_curve_is_thinned_and_keeps_its_spikes():
    points = [(step, 1.0) for step in range(10_000)]
    points[4_321], points[8_765] = (4_321, 9.0), (8_765, 0.5)
    chart = line_chart("loss", [Curve(name="a", points=points)])
    kept = chart.values["curves"][0]["points"]
    assert len(kept) <= MAX_POINTS + 1
    assert [4_321, 9.0] in kept
    assert [8_765, 0.5] in kept
    assert kept[0][0] == 0
    assert kept[-1][0] == 9_999
    assert kept == sorted(kept)


def test_values_far_apart_are_drawn_on_a_logarithmic_scale_and_others_are_not():
    def middle(values):
        chart = line_chart("loss", [Curve(name="a", points=list(enumerate(values)))])
        return places(chart.curves[0].path)[1][1] / CHART_HEIGHT

    assert middle([100.0, 10.0, 1.0]) == pytest.approx(0.5, abs=0.01)
    assert middle([3.0, 2.0, 1.0]) == pytest.approx(0.5, abs=0.01)
    assert middle([10.0, 2.0, 1.0]) > 0.7


def test_curves_without_points_are_left_out_and_none_at_all_is_no_chart():
    empty = Curve(name="b", points=[])
    assert line_chart("loss", [empty]) is None
    chart = line_chart("loss", [empty, Curve(name="a", points=[(1, 2.0)])], mark=(1, 2.0, "best"))
    assert [curve.name for curve in chart.curves] == ["a"]
    assert len(chart.curves[0].dots) == 1  # one point makes no line
    assert chart.marks[0][2] == "best"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1500, "1.5k"),
        (20_000, "20k"),
        (3e6, "3M"),
        (0.25, "0.25"),
        (5e-4, "5e-4"),
        (-2, "-2"),
        (1e-3, "0.001"),
    ],
)
def test_numbers_are_short(value, text):
    assert short_number(value) == text


def test_numbers_stay_finite():
    assert math.isfinite(float(short_number(12.34567)))
