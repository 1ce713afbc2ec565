"""chrF against sacrebleu's own public functions."""

import sys

import numpy as np
import pytest

from systems.pixel_llm.errors import NotComputedError
from systems.pixel_llm.evaluation.chrf import chrf_of_sums, chrf_statistics

CAPTIONS = ["A brown dog runs.", "two cats", "ein Käfer auf\ndem Blatt", "", "x", "日本の猫"]
REFERENCES = [
    ["The brown dogs run.", "a dog is running on grass"],
    ["Two cats"],
    ["Ein Käfer auf dem Blatt", "der Käfer", "zwei Käfer"],
    ["nothing was said"],
    ["", "x"],
    ["日本の白い猫", "猫"],
]


def test_equal_to_sacrebleu():
    chrf = pytest.importorskip("sacrebleu.metrics.chrf", reason="sacrebleu, the extra `scores`, is not installed").CHRF
    found = chrf_statistics(CAPTIONS, REFERENCES)
    longest = max(len(each) for each in REFERENCES)
    streams = [[each[i] if i < len(each) else None for each in REFERENCES] for i in range(longest)]
    metric = chrf()
    assert chrf_of_sums(found.counts.sum(axis=0)) * 100 == pytest.approx(
        metric.corpus_score(CAPTIONS, streams).score, abs=1e-12
    )
    assert found.signature == metric.get_signature().format()
    assert found.signature.startswith("nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    one_by_one = [metric.sentence_score(said, each).score for said, each in zip(CAPTIONS, REFERENCES, strict=True)]
    assert chrf_of_sums(found.counts) * 100 == pytest.approx(one_by_one, abs=1e-12)
    assert one_by_one[3] == 0
    assert one_by_one[4] == 100


def test_of_nothing_and_of_all():
    assert chrf_of_sums(np.zeros((2, 18))).tolist() == [0, 0]
    assert chrf_of_sums(np.tile([5.0, 5.0, 5.0], 6)) == 1


def test_the_reason_where_sacrebleu_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.chrf", None)
    with pytest.raises(NotComputedError, match=r"Run: pip install 'pixel-llm\[scores\]'"):
        chrf_statistics(["a"], [["a"]])


def test_a_picture_without_reference():
    with pytest.raises(ValueError, match="Picture 1 has no reference"):
        chrf_statistics(["a", "b"], [["a"], []])
