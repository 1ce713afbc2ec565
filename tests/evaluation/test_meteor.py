"""METEOR of what its program counts: the formula of the paper, done by hand."""

import numpy as np
import pytest

from systems.pixel_llm.evaluation.meteor import meteor_of_sums, summable

# "a dog is running" against "the dog is running fast" and "a dog runs", as the program counts it: the second is best
RUNNING = "4 3 2 1  1 1 1 1  0 0 0 0  0 0 0 0  0 1 1 0  1 3 3"
# a caption without words, one that is its reference, one of which no word is there
EMPTY = "0 3 0 1  0 0 0 0  0 0 0 0  0 0 0 0  0 0 0 0  0 0 0"
WHOLE = "3 3 1 1  2 2 1 1  0 0 0 0  0 0 0 0  0 0 0 0  1 3 3"
NOTHING = "1 2 0 1  0 0 0 0  0 0 0 0  0 0 0 0  0 0 0 0  0 0 0"
MIXED = "9 8 3 3  1 1 1 1  1 1 0 0  1 1 0 0  1 2 1 0  3 6 6"


def counts(*lines):
    return summable(np.array([[float(each) for each in line.split()] for line in lines]))


def by_hand(caption, reference):
    """Of (weighted matches, weighted words) of both, with one piece of three matched words on each side."""
    precision, recall = caption[0] / caption[1], reference[0] / reference[1]
    return precision * recall / (0.85 * precision + 0.15 * recall) * (1 - 0.6 * (1 / 3) ** 0.2)


def test_one_caption():
    # content words count 0.75, function words 0.25; an exact match counts 1, a paraphrase 0.6
    caption = (0.75 * 1 + 0.25 * 1 + 0.6 * 0.25 * 1, 0.75 * 2 + 0.25 * 2)
    reference = (0.75 * 1 + 0.25 * 1 + 0.6 * 0.75 * 1, 0.75 * 2 + 0.25 * 1)
    assert meteor_of_sums(counts(RUNNING)) == pytest.approx([by_hand(caption, reference)], abs=1e-12)


def test_the_ends_of_the_scale():
    assert meteor_of_sums(counts(WHOLE, EMPTY, NOTHING)).tolist() == pytest.approx([1, 0, 0])
    assert meteor_of_sums(np.zeros(23)) == 0


def test_a_caption_that_is_its_reference_adds_no_piece_to_the_set():
    with_whole, without = counts(MIXED, WHOLE).sum(axis=0), counts(MIXED).sum(axis=0)
    assert with_whole[20] == without[20] == 3
    assert with_whole[21] == 9
    assert meteor_of_sums(without) < meteor_of_sums(with_whole) < 1


def test_an_empty_caption_lowers_the_set():
    assert meteor_of_sums(counts(MIXED, EMPTY).sum(axis=0)) < meteor_of_sums(counts(MIXED).sum(axis=0))
