"""Counting n-grams of all captions at once: the same as with a dictionary for each."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.evaluation.ngrams import check_pairs, count_ngrams

WORDS = st.lists(st.sampled_from("abc"), max_size=7)
PAIRS = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=5)


def plain_count(words, n):
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


@given(PAIRS)
def test_equal_to_counting_each_caption_by_itself(pairs):
    captions, references = zip(*pairs, strict=True)
    counts = count_ngrams(captions, references, with_words=True)
    flat = [(picture, words) for picture, each in enumerate(references) for words in each]
    assert counts.caption_length.tolist() == [len(words) for words in captions]
    assert counts.reference_length.tolist() == [len(words) for _, words in flat]
    assert counts.reference_picture.tolist() == [picture for picture, _ in flat]
    for n, order in enumerate(counts.orders, start=1):
        found = [Counter() for _ in captions]
        for picture, ngram, count in zip(order.caption_picture, order.caption_ngram, order.caption_count, strict=True):
            found[picture][order.words[ngram]] = count
        assert found == [plain_count(words, n) for words in captions]
        found = [Counter() for _ in flat]
        for reference, ngram, count, same in zip(
            order.reference, order.reference_ngram, order.reference_count, order.same_in_caption, strict=True
        ):
            found[reference][order.words[ngram]] = count
            picture = counts.reference_picture[reference]
            if same >= 0:
                assert (order.caption_picture[same], order.caption_ngram[same]) == (picture, ngram)
            else:
                assert order.words[ngram] not in plain_count(captions[picture], n)
        assert found == [plain_count(words, n) for _, words in flat]
        assert order.num_ngrams == len(set(order.words))


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        ([], [], "found 0 captions, 0 lists"),
        (["a"], [], "found 1 captions, 0 lists"),
        (["a"], [["a"], ["b"]], "found 1 captions, 2 lists"),
        (["a", "b"], [["a"], []], "Picture 1 has no reference"),
        (["a"], ["a dog"], "Picture 0 has a string as references"),
    ],
)
def test_a_caption_and_a_reference_for_each_picture(captions, references, message):
    with pytest.raises(ValueError, match=message):
        check_pairs(captions, references)
