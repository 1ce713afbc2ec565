"""Captions token by token: the cache against the plain truth, when it stops, what may be said, and drawing."""

import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models import generation
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.models.generation_slow import generate_slow
from systems.pixel_llm.models.logits_rules import filter_logits


def generate_ids(model, features, *, generator=None, **settings):
    """[B, L] of one caption a picture."""
    return generation.generate_ids(model, features, GenerationOptions(**settings), generator=generator).ids[:, 0]


def generate_ids_slowly(model, features, **settings):
    return [captions[0].ids for captions in generate_slow(model, features, GenerationOptions(**settings))]


FEW = ["a red square", "a blue circle", "a green triangle"] * 2


@pytest.fixture
def images():
    return torch.randn(5, 3, 16, 24, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def model(tiny_model):
    """Random weights; `<eos>` is made likely enough that some rows say it early."""
    model = tiny_model(is_random=True)
    model.fit_tokenizer(FEW)
    return model


def end_early(model, images):
    """Push `<eos>` up until some rows, but not all, say it before the last token."""
    features = model.encode_images(images)
    direction = torch.zeros_like(model.decoder.token_embedding.weight[2])
    hidden = []
    handle = model.decoder.norm.register_forward_hook(lambda *call: hidden.append(call[2].mean(dim=(0, 1))))
    generate_ids(model, features, max_length=16)
    handle.remove()
    direction = torch.stack(hidden).mean(dim=0)
    direction = direction / direction.norm()
    table = model.decoder.token_embedding.weight
    for strength in torch.linspace(0.0, 6.0, 121):
        table[2] = direction * strength
        lengths = [len(row) for row in generate_ids_slowly(model, features, max_length=16)]
        if len(set(lengths)) > 1 and min(lengths) < 16:
            return lengths
    raise AssertionError("no strength ends some rows early")


@torch.no_grad()
@pytest.mark.parametrize("seed", range(6))
def test_the_cache_says_what_the_plain_truth_says(tiny_model, seed):
    torch.manual_seed(seed)
    model = tiny_model(text_num_layers=1 + seed % 3)
    torch.manual_seed(seed)
    for parameter in model.decoder.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    features = model.encode_images(torch.randn(4, 3, 16, 24))
    quick = generate_ids(model, features, max_length=16)
    slow = generate_ids_slowly(model, features, max_length=16)
    assert [row[: len(each)] for row, each in zip(quick.tolist(), slow, strict=True)] == slow
    assert len({tuple(each) for each in slow}) > 1  # the picture decides: cross-attention is part of what is compared


@torch.no_grad()
def test_rows_that_have_ended_hold_eos_and_the_others_go_on(model, images):
    lengths = end_early(model, images)
    features = model.encode_images(images)
    quick = generate_ids(model, features, max_length=16)
    assert quick.shape[1] == max(lengths)
    for row, each in zip(quick.tolist(), generate_ids_slowly(model, features, max_length=16), strict=True):
        assert row[: len(each)] == each
        assert set(row[len(each) :]) <= {2}


@torch.no_grad()
def test_it_stops_when_all_rows_have_ended(model, images):
    calls = []
    handle = model.decoder.register_forward_hook(lambda *call: calls.append(1))
    weight = model.decoder.token_embedding.weight
    weight.zero_()
    # All logits are 0, `<eos>` is the first that may be said.
    assert model.generate(images) == [""] * 5
    handle.remove()
    assert len(calls) == 1


@torch.no_grad()
@pytest.mark.parametrize("max_length", [1, 2, 7, 16])
def test_max_length_counts_tokens(model, images, max_length):
    model.decoder.token_embedding.weight[2] = 0
    features = model.encode_images(images)
    longest = generate_ids(model, features, max_length=16)
    assert longest.shape == (5, 16)
    assert torch.equal(generate_ids(model, features, max_length=max_length), longest[:, :max_length])
    texts = [model.tokenizer.decode(row).strip() for row in longest[:, :max_length].tolist()]
    assert model.generate(images, max_length=max_length) == texts


@torch.no_grad()
def test_a_caption_may_be_as_long_as_the_model_can_read(model, images):
    model.decoder.token_embedding.weight[2] = 0
    assert generate_ids(model, model.encode_images(images), max_length=16).shape[1] == model.config.max_seq_len


@torch.no_grad()
@pytest.mark.parametrize("do_sample", [False, True])
def test_special_tokens_and_spare_rows_are_never_said(model, images, do_sample):
    assert model.tokenizer.vocab_size < model.num_embeddings
    unsayable = [0, 1, *range(model.tokenizer.vocab_size, model.num_embeddings)]
    # Make them the loudest there are, whichever way the state points.
    weight = model.decoder.token_embedding.weight
    weight[unsayable] = torch.randn(len(unsayable), 24) * 50
    settings = {"do_sample": True, "temperature": 3.0} if do_sample else {}
    ids = generate_ids(model, model.encode_images(images), max_length=16, **settings)
    assert not set(ids.flatten().tolist()) & set(unsayable)


# --- drawing ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_draws_are_the_generators(model, images):
    def draw(seed):
        return model.generate(images, do_sample=True, generator=torch.Generator().manual_seed(seed))

    before = torch.get_rng_state()
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    first = model.generate(images, do_sample=True)
    torch.manual_seed(5)
    assert model.generate(images, do_sample=True) == first


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-3}, {"temperature": 1e-30}, {"temperature": 1e-44},
     {"top_k": 1, "top_p": 1.0, "temperature": 5.0}],
)  # fmt: skip
def test_what_leaves_one_choice_is_greedy(model, images, settings):
    greedy = model.generate(images)
    drawn = model.generate(images, do_sample=True, generator=torch.Generator().manual_seed(0), **settings)
    assert drawn == greedy


@torch.no_grad()
@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, None, None), (2.0, None, None), (0.5, 10, 0.8)])
def test_first_tokens_are_drawn_as_likely_as_they_are(model, images, temperature, top_k, top_p):
    features = model.encode_images(images[:1])
    logits = model.decode(torch.tensor([[1]]), features)[0, -1] / temperature
    logits[[0, 1, *range(model.tokenizer.vocab_size, model.num_embeddings)]] = float("-inf")
    probabilities = logits.softmax(0)
    if top_k is not None:
        # Filtered by hand: the top_k likeliest, then of those the fewest that make up top_p.
        kept = probabilities.argsort(descending=True)[:top_k].tolist()
        total, nucleus = float(probabilities[kept].sum()), []
        while sum(float(probabilities[each]) for each in nucleus) / total < top_p:
            nucleus.append(kept[len(nucleus)])
        only = torch.zeros_like(probabilities)
        only[nucleus] = probabilities[nucleus]
        probabilities = only / only.sum()
    count = 20_000
    ids = generate_ids(
        model, features.expand(count, -1, -1), max_length=1, do_sample=True, temperature=temperature, top_k=top_k,
        top_p=top_p, generator=torch.Generator().manual_seed(4),
    )  # fmt: skip
    share = torch.bincount(ids.flatten(), minlength=len(probabilities)) / count
    deviation = (probabilities * (1 - probabilities) / count).sqrt()
    assert bool(((share - probabilities).abs() <= 5 * deviation + 1e-9).all())


LOGITS = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.1, 0.1, 0.1]]).log()


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (None, None, [[0, 1, 2, 3], [0, 1, 2, 3]]),
        (1, None, [[1], [0]]),
        (2, None, [[1, 3], [0, 1, 2, 3]]),  # equals of the smallest one stay
        (99, None, [[0, 1, 2, 3], [0, 1, 2, 3]]),
        (None, 0.01, [[1], [0]]),
        (None, 0.39, [[1], [0]]),
        (None, 0.41, [[1, 3], [0]]),
        (None, 0.89, [[1, 2, 3], [0, 1, 2]]),
        (None, 1.0, [[0, 1, 2, 3], [0, 1, 2, 3]]),
        (2, 0.5, [[1], [0]]),  # of the two that stay, the first has 4/7
        (2, 0.6, [[1, 3], [0]]),
    ],
)
def test_which_tokens_may_be_drawn(top_k, top_p, kept):
    result = filter_logits(LOGITS.clone(), top_k=top_k, top_p=top_p)
    for row, expected in enumerate(kept):
        stay = result[row].isfinite().nonzero().flatten().tolist()
        if top_p == 0.89 and row == 1:  # three of four equals fill it up; which of them is no matter
            assert len(stay) == 3
            assert 0 in stay
        else:
            assert stay == expected
        assert torch.equal(result[row, stay], LOGITS[row, stay])


# --- generate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, r"max_length.*at least 1, or None, not 0"),
        ({"max_length": 17}, r"max_length.*max_seq_len=16, not 17"),
        ({"temperature": 0.5}, r"do_sample=True"),
        ({"top_k": 5}, r"do_sample=True"),
        ({"top_p": 0.5}, r"do_sample=True"),
        ({"do_sample": True, "temperature": 0}, r"temperature.*not 0"),
        ({"do_sample": True, "temperature": -1.0}, r"temperature.*not -1"),
        ({"do_sample": True, "temperature": float("nan")}, r"temperature.*nan"),
        ({"do_sample": True, "temperature": float("inf")}, r"temperature.*inf"),
        ({"do_sample": True, "top_k": 0}, r"top_k.*not 0"),
        ({"do_sample": True, "top_p": 0.0}, r"top_p.*not 0"),
        ({"do_sample": True, "top_p": 1.01}, r"top_p.*not 1.01"),
        ({"do_sample": True, "top_p": float("nan")}, r"top_p.*nan"),
    ],
)
def test_a_bad_setting_is_named(model, images, settings, message):
    model.train()
    with pytest.raises(ConfigError, match=message):
        model.generate(images, **settings)
    assert model.training


@pytest.mark.parametrize("is_training", [True, False])
def test_generate_leaves_the_model_as_it_was(model, images, is_training):
    model.train(is_training)
    model.encoder.eval()  # a frozen encoder without dropout stays one
    modes = {name: module.training for name, module in model.named_modules()}
    model.decoder.token_embedding.weight.grad = torch.ones_like(model.decoder.token_embedding.weight)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    assert model.generate(images) == model.generate(images)  # no dropout while captioning
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.is_grad_enabled()
    assert all(torch.equal(each, before[name]) for name, each in model.named_parameters())
    assert [name for name, each in model.named_parameters() if each.grad is not None] == [
        "decoder.token_embedding.weight"
    ]
    assert bool((model.decoder.token_embedding.weight.grad == 1).all())


def test_a_picture_is_captioned_the_same_alone_and_in_company(model, images):
    together = model.generate(images)
    assert [model.generate(image[None])[0] for image in images] == together


def test_generate_takes_plain_strings_out_of_any_bytes(tiny_model, images):
    """An untrained model says any bytes: they come out as text all the same, without space at the ends."""
    for seed in range(5):
        captions = tiny_model().generate(
            images, do_sample=True, temperature=3.0, generator=torch.Generator().manual_seed(seed)
        )
        assert len(captions) == 5
        for caption in captions:
            caption.encode("utf-8")
            assert caption == caption.strip()
