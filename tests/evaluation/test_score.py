"""Scores with signatures and intervals, and the comparison of two runs."""

import numpy as np
import pytest

from systems.pixel_llm import __version__
from systems.pixel_llm.evaluation.cider import DocumentFrequencies
from systems.pixel_llm.evaluation.score import NAMES, compare, score_captions

COLOURS, THINGS = ("red", "blue", "green", "yellow"), ("dog", "cat", "bird", "horse", "boat")


def made_up(count, *, wrong=0.0, seed=0):
    """Captions, of which about a share `wrong` says any colour, and two references each, the same for any seed."""
    generator = np.random.default_rng(0)
    truth = [(COLOURS[generator.integers(4)], THINGS[generator.integers(5)]) for _ in range(count)]
    generator = np.random.default_rng(seed)
    told = [COLOURS[generator.integers(4)] if generator.random() < wrong else colour for colour, _ in truth]
    captions = [f"A {colour} {thing} on the grass." for colour, (_, thing) in zip(told, truth, strict=True)]
    return captions, [[f"a {c} {t} on the grass", f"there is a {c} {t}"] for c, t in truth]


def test_the_scores_of_the_set():
    captions, references = made_up(50, wrong=0.3)
    found = score_captions(captions, references)
    scores = found.scores(num_draws=0)
    assert tuple(score.name for score in scores) == NAMES
    assert [score.value for score in scores] == found.values.tolist()
    assert all(score.interval is None for score in scores)
    assert found.values[:4] == pytest.approx(found.bleu.corpus())
    assert found.values[4:] == pytest.approx([found.rouge_l.mean(), found.cider_d.mean()])
    assert found.per_picture.shape == (50, 6)


def test_the_signature_tells_what_must_be_the_same():
    captions, references = made_up(3)
    end = f"tok:ptb.1|version:{__version__}"
    found = score_captions(captions, references)
    assert found.signature("BLEU-2") == f"n:2|length:closest|pictures:3|refs:2|{end}"
    assert found.signature("ROUGE-L") == f"beta:1.2|pictures:3|refs:2|{end}"
    assert found.signature("CIDEr-D") == f"n:4|sigma:6|df:references|pictures:3|refs:2|{end}"
    references[0] = references[0][:1]
    frequencies = DocumentFrequencies(num_pictures=1000, pictures_with={"a": 900})
    other = score_captions(captions, references, frequencies=frequencies)
    assert other.signature("CIDEr-D") == f"n:4|sigma:6|df:1000-pictures|pictures:3|refs:1-2|{end}"
    with pytest.raises(ValueError, match="found 'METEOR'"):
        found.signature("METEOR")


def test_a_score_is_told_in_a_line():
    score = score_captions(*made_up(3)).scores(num_draws=10)[4]
    assert str(score).startswith("ROUGE-L 1.0000 [1.0000, 1.0000] (beta:1.2|pictures:3|")


def test_intervals_hold_the_value_and_shrink_with_more_pictures():
    widths = []
    for count in (50, 800):
        for score in score_captions(*made_up(count, wrong=0.5)).scores(seed=1):
            low, high = score.interval
            assert low < score.value < high
        widths.append(high - low)
    assert 2.5 < widths[0] / widths[1] < 6  # the root of 16 is 4


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    found = score_captions(*made_up(400, wrong=0.5))
    low, high = found.scores(num_draws=4000)[4].interval
    error = found.rouge_l.std() / 20
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.06)


def test_draws_are_those_of_a_plain_loop():
    found = score_captions(*made_up(30, wrong=0.5))
    captions, references = made_up(30, wrong=0.5)
    generator = np.random.default_rng(3)
    rows = generator.integers(30, size=(20, 30))
    drawn = [[captions[i] for i in row] for row in rows]
    bleu = [score_captions(each, [references[i] for i in row]).values[3] for each, row in zip(drawn, rows, strict=True)]
    assert found.scores(num_draws=20, seed=3)[3].interval == pytest.approx(tuple(np.percentile(bleu, [2.5, 97.5])))


def test_the_same_seed_gives_the_same_interval():
    found = score_captions(*made_up(40, wrong=0.5))
    assert found.scores(seed=5) == found.scores(seed=5)
    assert found.scores(seed=5) != found.scores(seed=6)


def test_a_run_against_itself_is_no_different():
    found = score_captions(*made_up(20, wrong=0.5))
    for difference in compare(found, found, num_draws=50):
        assert difference.value == 0
        assert difference.interval == (0, 0)
        assert difference.p_value == 1


def test_a_better_run_is_told_from_a_worse_one():
    good, bad = score_captions(*made_up(200, wrong=0.1)), score_captions(*made_up(200, wrong=0.7))
    for difference, turned in zip(compare(good, bad), compare(bad, good), strict=True):
        assert difference.value == -turned.value > 0
        assert 0 < difference.interval[0] < difference.value < difference.interval[1]
        assert difference.p_value == turned.p_value == pytest.approx(1 / 1001)


def test_chance_alone_is_not_taken_for_a_difference():
    runs = [score_captions(*made_up(200, wrong=0.5, seed=seed)) for seed in range(40)]
    p_values = [
        compare(one, other, num_draws=200, seed=seed)[5].p_value
        for seed, (one, other) in enumerate(zip(runs[::2], runs[1::2], strict=True))
    ]
    assert sum(p < 0.05 for p in p_values) <= 4  # one in twenty is meant; five would come once in 400 times
    assert 0.3 < np.mean(p_values) < 0.7


def test_only_the_same_pictures_compare():
    with pytest.raises(ValueError, match="scored alike"):
        compare(score_captions(*made_up(5)), score_captions(*made_up(6)))


def test_wrong_numbers():
    with pytest.raises(ValueError, match="found -1"):
        score_captions(*made_up(2)).scores(num_draws=-1)
    with pytest.raises(ValueError, match="Picture 0 has a string"):
        score_captions(["a"], ["a"])
