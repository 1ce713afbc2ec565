"""CIDEr and CIDEr-D: values by hand, the paper's formula with dictionaries, document frequencies from a file."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.cider import FEW_PICTURES, DocumentFrequencies, caveat, cider
from systems.pixel_llm.evaluation.ngrams import count_ngrams

WORDS = st.lists(st.sampled_from("abcd"), max_size=8)
PAIRS = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=5)


def counts_of(*pairs, with_words=False):
    """Of (caption, [references]), words divided by spaces."""
    references = [[each.split() for each in references] for _, references in pairs]
    return count_ngrams([caption.split() for caption, _ in pairs], references, with_words=with_words)


def test_words_of_every_picture_weigh_nothing():
    # of "a dog", "dog" and "a dog" are of one picture in two; there are no runs of three and four words: 2 of 4
    assert cider(counts_of(("a dog", ["a dog"]), ("a dog", ["a cat"]))) == pytest.approx([5, 0])


def test_cider_d_clips_and_asks_for_the_length():
    counts = counts_of(("dog dog", ["dog"]), ("cat", ["cat"]))
    assert cider(counts, variant="CIDEr") == pytest.approx([10 / 4, 10 / 4])
    assert cider(counts) == pytest.approx([10 / 4 / 2 * math.exp(-1 / 72), 10 / 4])


def test_the_mean_over_references():
    assert cider(counts_of(("dog", ["dog", "bird"]), ("cat", ["cat"])))[0] == pytest.approx(10 / 4 / 2)


def test_one_picture_is_0():
    assert cider(counts_of(("a dog", ["a dog"]))).tolist() == [0]


def test_an_unknown_variant():
    with pytest.raises(ValueError, match="found 'D'"):
        cider(counts_of(("a", ["a"])), variant="D")


def plain_cider(captions, references, *, clipped):
    """Equations 1 to 4 of the paper, picture by picture."""

    def vector(words, n):
        ngrams = (tuple(words[start : start + n]) for start in range(len(words) - n + 1))
        return {each: count * rarity(each) for each, count in Counter(ngrams).items()}

    def rarity(ngram):
        n = len(ngram)
        holds = [
            any(ngram == tuple(words[at : at + n]) for words in each for at in range(len(words) - n + 1))
            for each in references
        ]
        return math.log(len(references) / max(1, sum(holds)))

    def norm(weights):
        return math.sqrt(sum(weight**2 for weight in weights.values()))

    values = []
    for caption, each in zip(captions, references, strict=True):
        total = 0.0
        for words in each:
            for n in range(1, 5):
                one, other = vector(caption, n), vector(words, n)
                both = sum((min(one[g], other[g]) if clipped else one[g]) * other[g] for g in one if g in other)
                if both:
                    penalty = math.exp(-((len(caption) - len(words)) ** 2) / 72) if clipped else 1.0
                    total += penalty * both / (norm(one) * norm(other))
        values.append(10 * total / 4 / len(each))
    return values


@given(PAIRS, st.booleans())
def test_equal_to_the_formula_written_plainly(pairs, clipped):
    captions, references = zip(*pairs, strict=True)
    values = cider(count_ngrams(captions, references), variant="CIDEr-D" if clipped else "CIDEr")
    assert values == pytest.approx(plain_cider(captions, references, clipped=clipped))
    assert ((values >= 0) & (values <= 10 + 1e-9)).all()


@given(PAIRS)
def test_the_order_of_references_does_not_matter(pairs):
    captions, references = zip(*pairs, strict=True)
    turned = cider(count_ngrams(captions, [each[::-1] for each in references]))
    assert turned == pytest.approx(cider(count_ngrams(captions, references)))


@given(st.lists(st.sampled_from("abcd"), min_size=4, max_size=9))
def test_a_caption_that_is_its_only_reference_has_10(caption):
    other = list("wxyz")
    assert cider(count_ngrams([caption, other], [[caption], [other]])) == pytest.approx([10, 10])


def test_frequencies_of_the_same_references_change_nothing(tmp_path):
    pairs = [("a dog runs on grass", ["a dog runs", "the dog"]), ("a cat", ["a cat sits", "ein café"]), ("x", ["a y"])]
    frequencies = DocumentFrequencies.count([[each.split() for each in references] for _, references in pairs])
    assert frequencies.num_pictures == 3
    assert frequencies.pictures_with["a"] == 3
    assert frequencies.pictures_with["the dog"] == 1
    frequencies.save(tmp_path / "df.json")
    assert DocumentFrequencies.load(tmp_path / "df.json") == frequencies
    expected = cider(counts_of(*pairs))
    assert cider(counts_of(*pairs, with_words=True), frequencies=frequencies).tolist() == expected.tolist()


def test_frequencies_of_more_pictures_make_one_picture_count():
    frequencies = DocumentFrequencies(num_pictures=100, pictures_with={"a": 100, "dog": 10})
    counts = counts_of(("a dog", ["a dog"]), with_words=True)
    assert cider(counts, frequencies=frequencies) == pytest.approx([5])
    with pytest.raises(ValueError, match="with_words=True"):
        cider(counts_of(("a dog", ["a dog"])), frequencies=frequencies)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "holds no document frequencies"),
        ({"tokenizer": "ptb.0"}, "expected 'ptb.1'"),
        ({"num_pictures": 0}, "damaged"),
        ({"num_pictures": True}, "damaged"),
        ({"pictures_with": ["a"]}, "damaged"),
        ({"pictures_with": {"a": 3}}, "damaged"),
        ({"pictures_with": {"a": "1"}}, "damaged"),
    ],
)
def test_a_file_that_is_something_else(tmp_path, change, message):
    path = tmp_path / "df.json"
    DocumentFrequencies(num_pictures=2, pictures_with={"a": 1}).save(path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        DocumentFrequencies.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json(tmp_path, content):
    path = tmp_path / "df.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"df\.json"):
        DocumentFrequencies.load(path)
    with pytest.raises(DatasetError, match="absent"):
        DocumentFrequencies.load(tmp_path / "absent")


def test_the_caveat():
    assert "always 0" in caveat(1)
    assert "over 12 pictures means little" in caveat(12)
    assert caveat(FEW_PICTURES) is None


def test_values_are_finite_for_empty_captions():
    assert np.isfinite(cider(counts_of(("", ["a"]), ("", [""]), ("a", [""])))).all()
