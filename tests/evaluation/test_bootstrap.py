"""Pictures drawn anew."""

import numpy as np
import pytest

from systems.pixel_llm.evaluation.bootstrap import draws, interval_of_sums, percentile_interval


def test_each_draw_takes_as_many_pictures_as_there_are():
    blocks = list(draws(7, num_draws=300, seed=3))
    times = np.concatenate(blocks)
    assert times.shape == (300, 7)
    assert max(len(block) for block in blocks) <= 128
    assert (times.sum(axis=1) == 7).all()
    assert len(np.unique(times, axis=0)) > 200
    assert (times == np.concatenate(list(draws(7, num_draws=300, seed=3)))).all()
    assert (times != np.concatenate(list(draws(7, num_draws=300, seed=4)))).any()
    with pytest.raises(ValueError, match="at least 1; found 0"):
        next(draws(7, num_draws=0, seed=0))


def test_the_interval_is_that_of_drawing_one_by_one():
    contributions = np.random.default_rng(0).random((40, 2))
    found = interval_of_sums(contributions, lambda sums: sums[..., 0] / sums[..., 1], num_draws=200, seed=5)
    scores = []
    for times in np.concatenate(list(draws(40, num_draws=200, seed=5))):
        drawn = np.repeat(contributions, times.astype(int), axis=0)
        scores.append(drawn[:, 0].sum() / drawn[:, 1].sum())
    assert found == pytest.approx(percentile_interval(np.array(scores)), abs=1e-12)
    assert found == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=1e-12)
