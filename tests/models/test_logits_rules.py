"""The rules over one step's logits, each against the same rule written as a loop over plain lists."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.models.generation import generate_ids
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.models.logits_rules import forbid, penalise_repetition, sayable_logits
from systems.pixel_llm.tokenizer import CaptionTokenizer

VOCABULARY, EOS = 7, 2
ids = st.integers(2, VOCABULARY - 1)
said = st.integers(0, 9).flatmap(
    lambda length: st.lists(st.lists(ids, min_size=length, max_size=length), min_size=1, max_size=4)
)


def logits_for(rows, seed=0):
    return torch.randn(len(rows), VOCABULARY, generator=torch.Generator().manual_seed(seed))


@given(said, st.integers(1, 4))
def test_no_ngram_is_said_twice(rows, size):
    logits = logits_for(rows)
    said_ids = torch.tensor(rows).view(len(rows), -1)
    found = forbid(logits, said_ids, GenerationOptions(no_repeat_ngram_size=size), eos_id=EOS)
    for row, before, after in zip(rows, logits.tolist(), found.tolist(), strict=True):
        grams = [row[start : start + size] for start in range(len(row) - size + 1)]
        last = row[len(row) - size + 1 :] if size > 1 else []
        for token in range(VOCABULARY):
            repeats = len(row) >= size and [*last, token] in grams
            assert after[token] == (-math.inf if repeats else before[token])


@given(said, st.floats(0.1, 5.0))
def test_what_was_said_becomes_less_likely(rows, penalty):
    logits = logits_for(rows, 1)
    said_ids = torch.tensor(rows).view(len(rows), -1)
    before = logits.clone()
    found = penalise_repetition(logits, said_ids, GenerationOptions(repetition_penalty=penalty))
    assert torch.equal(logits, before)
    for row, old, new in zip(rows, before.tolist(), found.tolist(), strict=True):
        for token in range(VOCABULARY):
            expected = old[token]
            if token in row:
                expected = expected / penalty if expected > 0 else expected * penalty
            assert new[token] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("min_length", [0, 1, 2, 3, 4])
def test_the_end_waits_for_min_length(min_length):
    logits = logits_for([[3, 3]])
    found = forbid(logits, torch.tensor([[3, 3]]), GenerationOptions(min_length=min_length), eos_id=EOS)
    assert bool(found[0, EOS].isfinite()) == (min_length <= 2)
    others = [token for token in range(VOCABULARY) if token != EOS]
    assert torch.equal(found[:, others], logits[:, others])


def test_where_nothing_else_is_left_the_caption_may_end_early():
    logits = torch.full((2, VOCABULARY), -math.inf)
    logits[:, EOS] = 1.0
    logits[1, 4] = -50.0
    rules = GenerationOptions(min_length=5, no_repeat_ngram_size=3)  # an n-gram rule is what leaves nothing else
    found = forbid(logits, torch.tensor([[3], [3]]), rules, eos_id=EOS)
    assert found[0, EOS] == 1.0
    assert found[1, EOS] == -math.inf
    assert found[1, 4] == -50.0


def test_without_a_rule_nothing_is_copied():
    logits = logits_for([[3, 4, 3, 4]])
    said_ids = torch.tensor([[3, 4, 3, 4]])
    assert penalise_repetition(logits, said_ids, GenerationOptions()) is logits
    assert forbid(logits, said_ids, GenerationOptions(min_length=4), eos_id=EOS) is logits


def test_captions_hold_no_special_tokens_but_the_end():
    tokenizer = CaptionTokenizer.bytes()
    found = sayable_logits(torch.zeros(2, tokenizer.vocab_size + 5, dtype=torch.bfloat16), tokenizer)
    assert found.dtype == torch.float32
    finite = found.isfinite()
    assert not finite[:, [0, 1, *range(tokenizer.vocab_size, tokenizer.vocab_size + 5)]].any()
    assert finite[:, 2 : tokenizer.vocab_size].all()


# --- in whole captions ------------------------------------------------------------------------------------------------

WAYS = pytest.mark.parametrize(
    "settings", [{}, {"num_beams": 4, "length_penalty": 0.0}, {"do_sample": True, "temperature": 1.5}]
)


def said_by(model, settings, *, length=14):
    """Ids of the captions of some pictures, up to the end."""
    features = model.encode_images(torch.randn(6, 3, 16, 24, generator=torch.Generator().manual_seed(11)))
    generator = torch.Generator().manual_seed(3)
    generated = generate_ids(model, features, GenerationOptions(max_length=length, **settings), generator=generator)
    rows = [row for captions in generated.ids.tolist() for row in captions]
    return [row[: row.index(EOS)] if EOS in row else row for row in rows]


def repeats(row, size):
    grams = [tuple(row[start : start + size]) for start in range(len(row) - size + 1)]
    return len(grams) - len(set(grams))


@torch.no_grad()
@WAYS
@pytest.mark.parametrize("size", [1, 2, 3])
def test_captions_repeat_no_ngram(letters_model, settings, size):
    model = letters_model(8, "abcde")
    model.decoder.token_embedding.weight[EOS] = 0
    assert any(repeats(row, size) for row in said_by(model, settings))
    assert not any(repeats(row, size) for row in said_by(model, settings | {"no_repeat_ngram_size": size}))


@torch.no_grad()
@WAYS
def test_captions_are_as_long_as_min_length(letters_model, settings):
    model = letters_model(9)
    shortest = min(len(row) for row in said_by(model, settings))
    assert shortest < 9
    assert min(len(row) for row in said_by(model, settings | {"min_length": 9})) >= 9


@torch.no_grad()
@WAYS
def test_a_repetition_penalty_varies_what_is_said(letters_model, settings):
    model = letters_model(10, "abcdefgh")

    def variety(penalty):
        return sum(
            len(set(row)) for row in said_by(model, settings | {"repetition_penalty": penalty, "min_length": 10})
        )

    assert variety(0.5) < variety(1.0) < variety(5.0)


@torch.no_grad()
@WAYS
@pytest.mark.parametrize(
    "prefix", ["a red", "a red ", "a red \t\n", "un café", "un cafe\N{COMBINING ACUTE ACCENT} ", "雪 ", "  a"]
)
def test_captions_begin_with_the_prefix(tiny_model, settings, prefix):
    model = tiny_model()
    model.fit_tokenizer(["a red square", "a red circle", "un café"] * 3)
    images = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(12))
    expected = prefix.replace("e\N{COMBINING ACUTE ACCENT}", "é").strip()
    captions = model.generate_scored(images, prefix=prefix, generator=torch.Generator().manual_seed(0), **settings)
    for (caption,) in captions:
        assert caption.text.startswith(expected)
        assert 1 <= caption.num_tokens <= 16 - len(model.tokenizer.encode(prefix.rstrip()))
        assert caption.log_probability < 0


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(
    "rules", [{}, {"repetition_penalty": 2.0, "no_repeat_ngram_size": 2, "min_length": 4, "top_k": 3}]
)
@pytest.mark.parametrize("prefix", ["", "ab"])
def test_what_is_drawn_counts_by_the_models_own_probabilities(letters_model, temperature, rules, prefix):
    """Neither temperature nor rules are in the log-probability, nor is the prefix."""
    model = letters_model(13)
    features = model.encode_images(torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(14)))
    options = GenerationOptions(do_sample=True, temperature=temperature, num_return_sequences=5, prefix=prefix, **rules)
    generated = generate_ids(model, features, options, generator=torch.Generator().manual_seed(15))
    assert generated.ids.shape[:2] == (4, 5)
    drawn = set()
    for picture, rows, sums in zip(features, generated.ids.tolist(), generated.log_probability.tolist(), strict=True):
        for row, found in zip(rows, sums, strict=True):
            said_ids = row[: row.index(EOS) + 1] if EOS in row else row
            logits = model.decode(torch.tensor([[1, *said_ids[:-1]]]), picture[None])[0].double()
            logs = logits[:, EOS : model.tokenizer.vocab_size].log_softmax(dim=-1)
            expected = sum(float(logs[place, said_ids[place] - EOS]) for place in range(len(prefix), len(said_ids)))
            assert found == pytest.approx(expected, abs=1e-4)
            assert model.tokenizer.decode(said_ids).startswith(prefix)
            drawn.add(tuple(said_ids))
    assert len(drawn) > 4
