"""Beam search: against a search through every caption there is, against the plain way, alone and in company."""

import itertools
import math
import random

import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.generation import generate_ids
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.models.generation_slow import generate_slow

NUM_PICTURES = 3


def features_for(model, seed, num_pictures=NUM_PICTURES):
    images = torch.randn(num_pictures, 3, 16, 24, generator=torch.Generator().manual_seed(1000 + seed))
    return model.encode_images(images)


def captions_of(model, generated):
    """Of each picture [(ids up to the end, log-probability)], without places that hold no caption."""
    eos_id, read = model.tokenizer.eos_id, []
    for rows, sums in zip(generated.ids.tolist(), generated.log_probability.tolist(), strict=True):
        captions = [
            (row[: row.index(eos_id) + 1] if eos_id in row else row, total)
            for row, total in zip(rows, sums, strict=True)
        ]
        read.append([caption for caption in captions if caption[1] > -math.inf])
    return read


def own_log_probability(model, features, ids, prefix_length=0):
    """A plain teacher-forced sum over what follows the prefix, in one pass without a cache."""
    tokenizer = model.tokenizer
    logits = model.decode(torch.tensor([[tokenizer.bos_id, *ids[:-1]]]), features[None])[0].double()
    logits[:, [tokenizer.pad_id, tokenizer.bos_id, *range(tokenizer.vocab_size, model.num_embeddings)]] = -math.inf
    logs = logits.log_softmax(dim=-1)
    return sum(float(logs[place, id]) for place, id in enumerate(ids) if place >= prefix_length)


def every_caption(model, features, *, max_length, prefix):
    """(ids, log-probability) of all that can be said of one picture: ended within `max_length` tokens, or cut there."""
    tokenizer, prefix_ids = model.tokenizer, model.tokenizer.encode(prefix)
    letters = range(tokenizer.eos_id + 1, tokenizer.vocab_size)
    found = []
    for length in range(max_length - len(prefix_ids) + 1):
        for said in itertools.product(letters, repeat=length):
            ids = [*prefix_ids, *said]
            if len(ids) < max_length:
                ids.append(tokenizer.eos_id)
            found.append((ids, own_log_probability(model, features, ids, len(prefix_ids))))
    return found


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "b"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_wide_beams_find_the_best_of_all_captions(letters_model, seed, length_penalty, prefix):
    model, max_length = letters_model(seed), 5 if prefix else 4
    features = features_for(model, seed, 2)
    # As many beams as there are continuations at the last token: none that matters is ever dropped.
    options = GenerationOptions(
        max_length=max_length, num_beams=4 * 3**3, length_penalty=length_penalty, num_return_sequences=20, prefix=prefix
    )
    found = captions_of(model, generate_ids(model, features, options))
    lengths = set()
    for picture, captions in zip(features, found, strict=True):

        def rank(caption):
            ids, total = caption
            return total / (len(ids) - len(prefix)) ** length_penalty

        expected = sorted(every_caption(model, picture, max_length=max_length, prefix=prefix), key=rank, reverse=True)
        assert [ids for ids, _ in captions] == [ids for ids, _ in expected[:20]]
        assert [total for _, total in captions] == pytest.approx([total for _, total in expected[:20]], abs=1e-4)
        lengths.update(len(ids) for ids, _ in captions)
    assert len(lengths) > 1 or length_penalty > 0


@torch.no_grad()
@pytest.mark.parametrize("penalty", [-1.0, 0.5, 2.0])
def test_all_captions_together_make_up_everything_that_can_be_said(letters_model, penalty):
    model = letters_model(1)
    features = features_for(model, 1)
    options = GenerationOptions(max_length=3, num_beams=40, num_return_sequences=40, length_penalty=penalty)
    for captions in captions_of(model, generate_ids(model, features, options)):
        assert len({tuple(ids) for ids, _ in captions}) == 1 + 3 + 9 + 27
        assert sum(math.exp(total) for _, total in captions) == pytest.approx(1, abs=1e-5)


def drawn_options(draw):
    """Options as a person may set them, from a `random.Random`."""
    max_length, num_beams = draw.randint(1, 9), draw.choice([1, 2, 3, 4, 7, 12])
    settings = {
        "max_length": max_length,
        "min_length": draw.choice([0, 0, draw.randint(0, max_length - 1)]),
        "num_beams": num_beams,
        "repetition_penalty": draw.choice([1.0, 1.0, 0.7, 1.3, 3.0]),
        "no_repeat_ngram_size": draw.choice([0, 0, 1, 2, 3]),
        "num_return_sequences": draw.randint(1, num_beams),
        "prefix": draw.choice(["", "", "a", "ba", "b a "]) if max_length > 3 else "",
    }
    if num_beams > 1:
        settings |= {
            "length_penalty": draw.choice([-2.0, -0.5, 0.0, 0.6, 1.0, 2.5]),
            "early_stopping": draw.random() < 0.4,
        }
    return GenerationOptions(**settings)  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("seed", [*range(40), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(40, 400))])
def test_narrow_beams_say_what_the_plain_way_says(letters_model, seed):
    draw = random.Random(seed)
    model = letters_model(seed, draw.choice(["ab ", "abc ", "abcdefgh "]))
    features, options = features_for(model, seed), drawn_options(draw)
    generated = generate_ids(model, features, options)
    found, expected = captions_of(model, generated), generate_slow(model, features, options)
    assert generated.ids.shape[:2] == (NUM_PICTURES, options.num_return_sequences)
    for picture, captions, slow in zip(features, found, expected, strict=True):
        assert [ids for ids, _ in captions] == [caption.ids for caption in slow], options
        assert [total for _, total in captions] == pytest.approx(
            [caption.log_probability for caption in slow], abs=1e-4
        ), options
        for ids, total in captions:
            assert total == pytest.approx(own_log_probability(model, picture, ids, generated.prefix_length), abs=1e-4)
    # Alone each picture gets what it gets in company.
    for row, picture in enumerate(features):
        assert [ids for ids, _ in captions_of(model, generate_ids(model, picture[None], options))[0]] == [
            ids for ids, _ in found[row]
        ]


# --- each setting has its effect --------------------------------------------------------------------------------------


def best(model, features, **settings):
    """The first caption's ids and log-probability of each picture."""
    captions = captions_of(model, generate_ids(model, features, GenerationOptions(**settings)))
    return [each[0] for each in captions]


@torch.no_grad()
def test_more_beams_find_likelier_captions(letters_model):
    gains = []
    for seed in range(6):
        model = letters_model(seed, "abcdefgh")
        features = features_for(model, seed)
        greedy = best(model, features, max_length=8)
        beams = best(model, features, max_length=8, num_beams=8, length_penalty=0.0)
        gains += [total - alone for (_, total), (_, alone) in zip(beams, greedy, strict=True)]
    assert sum(gains) > 0
    assert max(gains) > 0.1


@torch.no_grad()
def test_a_higher_length_penalty_gives_longer_captions(letters_model):
    mean_lengths = []
    for length_penalty in (-1.0, 0.0, 1.0, 3.0):
        lengths = []
        for seed in range(8):
            model = letters_model(seed)
            settings = {"max_length": 8, "num_beams": 6, "length_penalty": length_penalty}
            lengths += [len(ids) for ids, _ in best(model, features_for(model, seed), **settings)]
        mean_lengths.append(sum(lengths) / len(lengths))
    assert mean_lengths == sorted(mean_lengths)
    assert mean_lengths[0] < mean_lengths[1] < mean_lengths[-1]


@torch.no_grad()
def test_early_stopping_reads_fewer_tokens(letters_model):
    def tokens_read(model, features, **settings):
        calls = []
        handle = model.decoder.register_forward_hook(lambda *call: calls.append(1))
        generate_ids(model, features, GenerationOptions(max_length=14, num_beams=2, length_penalty=3.0, **settings))
        handle.remove()
        return len(calls)

    saved = []
    for seed in range(8):
        model = letters_model(seed)
        features = features_for(model, seed)
        saved.append(tokens_read(model, features) - tokens_read(model, features, early_stopping=True))
    assert min(saved) >= 0
    assert max(saved) > 3


@torch.no_grad()
def test_several_captions_are_different_and_ranked_and_begin_with_the_one(letters_model):
    model = letters_model(2)
    features = features_for(model, 2)
    several = captions_of(
        model, generate_ids(model, features, GenerationOptions(max_length=6, num_beams=5, num_return_sequences=5))
    )
    alone = best(model, features, max_length=6, num_beams=5)
    for captions, one in zip(several, alone, strict=True):
        assert captions[0][0] == one[0]
        assert len({tuple(ids) for ids, _ in captions}) == 5
        ranks = [total / len(ids) for ids, total in captions]
        assert ranks == sorted(ranks, reverse=True)


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}])
def test_pictures_that_are_done_are_no_longer_computed(letters_model, settings):
    model = letters_model(4)
    features = features_for(model, 4, 12)
    rows = []
    handle = model.decoder.register_forward_hook(lambda module, inputs, logits: rows.append(len(inputs[0])))
    options = GenerationOptions(max_length=14, **settings)
    generator = torch.Generator().manual_seed(0)
    found = captions_of(model, generate_ids(model, features, options, generator=generator))
    handle.remove()
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[-1] < max(rows) / 2
    if settings.get("do_sample"):
        return
    for row, picture in enumerate(features):
        ((alone,),) = captions_of(model, generate_ids(model, picture[None], options))
        assert alone == (found[row][0][0], pytest.approx(found[row][0][1], abs=1e-5))


# --- where little can be said -----------------------------------------------------------------------------------------


@torch.no_grad()
def test_where_there_are_fewer_captions_than_asked_for_the_rest_are_empty_and_impossible(letters_model):
    model = letters_model(0, "ab")
    features = features_for(model, 0)
    options = GenerationOptions(max_length=1, num_beams=7, num_return_sequences=7)
    generated = generate_ids(model, features, options)
    assert generated.ids.shape == (NUM_PICTURES, 7, 1)
    for captions in captions_of(model, generated):
        assert sorted(ids for ids, _ in captions) == [[2], [3], [4]]
    images = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    for captions in model.generate_scored(images, options=options):
        assert [caption.num_tokens for caption in captions] == [1, 1, 1, 0, 0, 0, 0]
        assert [caption.text for caption in captions[3:]] == [""] * 4
        assert all(caption.log_probability == -math.inf for caption in captions[3:])


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 3])
def test_where_every_token_is_forbidden_the_caption_ends(letters_model, num_beams):
    model = letters_model(3, "ab")
    model.decoder.token_embedding.weight[2] = 0
    features = features_for(model, 3)
    for ids, total in best(model, features, max_length=9, min_length=8, no_repeat_ngram_size=1, num_beams=num_beams):
        assert sorted(ids) == [2, 3, 4]
        assert ids[-1] == 2
        assert math.isfinite(total)


@torch.no_grad()
@pytest.mark.parametrize("do_sample", [False, True])
def test_captions_that_have_said_everything_wait_for_the_others(letters_model, do_sample):
    """Nothing is left to draw for a row that has ended, and that must not matter to those that go on."""
    model = letters_model(5, "ab")
    features = features_for(model, 5, 40)
    settings = {"do_sample": True, "generator": torch.Generator().manual_seed(0)} if do_sample else {}
    generator = settings.pop("generator", None)
    options = GenerationOptions(max_length=8, no_repeat_ngram_size=1, **settings)
    for ((ids, total),) in captions_of(model, generate_ids(model, features, options, generator=generator)):
        assert len(set(ids)) == len(ids) <= 3
        assert math.isfinite(total)


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_model_that_says_only_the_end_says_it_once(letters_model, num_beams):
    model = letters_model(4)
    model.decoder.norm.weight.zero_()
    model.decoder.norm.bias.copy_(model.decoder.token_embedding.weight[2] * 100)
    for ids, total in best(model, features_for(model, 4), num_beams=num_beams):
        assert ids == [2]
        assert total == pytest.approx(0, abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"num_beams": 4, "num_return_sequences": 3}, {"do_sample": True}])
def test_no_pictures_get_no_captions(letters_model, settings):
    model = letters_model(0)
    generated = generate_ids(model, features_for(model, 0)[:0], GenerationOptions(**settings))
    assert generated.ids.shape[:2] == (0, settings.get("num_return_sequences", 1))
    assert model.generate(torch.empty(0, 3, 16, 24), **settings) == []


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [2, 50])
def test_one_token_is_the_likeliest_one(letters_model, num_beams):
    model = letters_model(6)
    features = features_for(model, 6)
    assert best(model, features, max_length=1, num_beams=num_beams) == [
        (ids, pytest.approx(total)) for ids, total in best(model, features, max_length=1)
    ]


def test_the_plain_way_draws_nothing(letters_model):
    model = letters_model(0)
    with pytest.raises(ConfigError, match="do_sample must be False"):
        generate_slow(model, features_for(model, 0), GenerationOptions(do_sample=True))
