"""ROUGE-L: the examples of its paper, several references, bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.evaluation.rouge import longest_common_subsequence, rouge_l

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)
PAIRS = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=5)


def score(caption, *references):
    (value,) = rouge_l([caption.split()], [[each.split() for each in references]])
    return value


def test_the_examples_of_the_paper():
    assert score("police kill the gunman", "police killed the gunman") == pytest.approx(3 / 4)
    assert score("the gunman kill police", "police killed the gunman") == pytest.approx(2 / 4)


def test_recall_weighs_more_than_precision():
    # two of three words found, two of two: P 2/3, R 1; beta 1.2
    assert score("a dog runs", "a dog") == pytest.approx(2.44 * (2 / 3) / (1 + 1.44 * 2 / 3))
    assert score("a dog", "a dog runs") == pytest.approx(2.44 * (2 / 3) / (2 / 3 + 1.44))


def test_best_precision_and_best_recall_may_come_from_two_references():
    # the first gives P 3/4 and R 3/8, the second P 2/4 and R 1
    both = score("a b c d", "a b c x x x x x", "a d")
    assert both == pytest.approx(2.44 * (3 / 4) / (1 + 1.44 * 3 / 4))


@pytest.mark.parametrize(("caption", "reference"), [("", "a"), ("a", ""), ("", ""), ("a b", "c d")])
def test_nothing_in_common_is_0(caption, reference):
    assert score(caption, reference) == 0


def plain_length(one, other):
    row = [0] * (len(other) + 1)
    for word in one:
        row_before, row = row, [0]
        for column, each in enumerate(other):
            row.append(row_before[column] + 1 if word == each else max(row_before[column + 1], row[column]))
    return row[-1]


@given(WORDS, WORDS)
def test_the_common_subsequence_is_that_of_the_table(one, other):
    assert longest_common_subsequence(one, other) == plain_length(one, other)


def test_longer_than_a_machine_word():
    one, other = list("abcab" * 60), list("bacca" * 50)
    assert longest_common_subsequence(one, other) == plain_length(one, other)


@given(PAIRS)
def test_bounds_and_the_order_of_references(pairs):
    captions, references = zip(*pairs, strict=True)
    values = rouge_l(captions, references)
    assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert rouge_l(captions, [each[::-1] for each in references]).tolist() == values.tolist()


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), WORDS)
def test_a_caption_that_is_a_reference_has_1(caption, other):
    (value,) = rouge_l([caption], [[other, caption]])
    assert value == pytest.approx(1)
