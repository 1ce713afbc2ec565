"""Histograms with round edges that lose no number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.data.distributions import Bar, Spread, histogram, spread_of


def test_spread():
    assert spread_of([3, 1, 2]) == Spread(1, 2, 3)
    assert spread_of([4, 1, 2, 3]) == Spread(1, 2, 4)
    assert spread_of([7]) == Spread(7, 7, 7)


def test_a_histogram_counts_in_round_ranges():
    assert histogram([1, 1, 2, 4], least_width=1) == (Bar(1, 2, 2), Bar(2, 3, 1), Bar(3, 4, 0), Bar(4, 5, 1))
    assert [bar.start for bar in histogram(range(100), least_width=1)] == list(range(0, 100, 5))
    assert [bar.start for bar in histogram([0.15, 0.1], least_width=0.05)] == [0.1, 0.15]


@given(st.lists(st.integers(0, 10**6), min_size=1), st.sampled_from([1, 0.05]))
def test_every_number_is_in_one_bar(values, least_width):
    bars = histogram(values, least_width=least_width)
    assert len(bars) <= 24
    for bar in bars:
        assert bar.count == sum(bar.start <= value < bar.end for value in values)
    assert sum(bar.count for bar in bars) == len(values)


@pytest.mark.parametrize("value", [0, 1, 10**9])
def test_one_number_is_one_bar(value):
    assert [bar.count for bar in histogram([value], least_width=1)] == [1]
