"""Attention maps: the weights of the very pass that says the words, joined from tokens to words."""

import pytest
import torch

from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.models.attention_maps import attention_maps, cross_attention_weights, word_spans
from systems.pixel_llm.models.layers import split_heads

CAPTIONS = ["a red square on the left", "two circles"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = create_pixel_llm(
        image_size=(32, 48), patch_size=16, vision_embed_dim=32, text_embed_dim=64, vision_num_layers=1,
        text_num_layers=2, vision_num_heads=2, text_num_heads=4, max_seq_len=24,
    )  # fmt: skip
    model.fit_tokenizer([*CAPTIONS, "a red circle", "a red square"])
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def plain_weights(model, image, caption):
    """[blocks, T, N]: the whole decoder written out for one picture, one head after the other."""
    ids = torch.tensor([[model.tokenizer.bos_id, *model.tokenizer.encode(caption)]])
    features = model.encode_images(image[None])
    decoder = model.decoder
    hidden = decoder.token_embedding(ids) + decoder.position_embedding.weight[: ids.shape[1]]
    found = []
    for block, (key, value) in zip(decoder.blocks, decoder.look_at(features), strict=True):
        hidden = hidden + block._attend_to_caption(block.attention_norm(hidden), None)
        cross = block.cross_attention
        query = split_heads(cross.query(block.cross_attention_norm(hidden)), cross.num_heads)
        heads = []
        for head in range(cross.num_heads):
            scores = query[0, head] @ key[0, head].T / query.shape[-1] ** 0.5
            heads.append(scores.exp() / scores.exp().sum(dim=-1, keepdim=True))
        found.append(torch.stack(heads).mean(dim=0))
        mixed = torch.cat([heads[head] @ value[0, head] for head in range(cross.num_heads)], dim=-1)
        hidden = hidden + cross.out(mixed[None])
        hidden = hidden + block.mlp(block.mlp_norm(hidden))
    return torch.stack(found)


def test_the_weights_are_those_of_the_plain_computation(model, images):
    weights = cross_attention_weights(model, images, CAPTIONS)
    longest = max(len(model.tokenizer.encode(caption)) for caption in CAPTIONS)
    assert weights.shape == (2, 2, longest + 1, 6)
    model.eval()
    with torch.inference_mode():
        for row, caption in enumerate(CAPTIONS):
            wanted = plain_weights(model, images[row], caption)
            torch.testing.assert_close(weights[row, :, : wanted.shape[1]], wanted, rtol=1e-4, atol=1e-6)
    assert weights.std(dim=2).max() > 1e-4  # not the same for all words


def test_each_word_has_one_map_that_sums_to_1(model, images):
    maps = attention_maps(model, images[0], CAPTIONS[0])
    assert [each.word for each in maps] == CAPTIONS[0].split()
    for each in maps:
        assert each.weights.shape == (2, 3)
        assert each.weights.min() >= 0
        assert each.weights.sum().item() == pytest.approx(1, abs=1e-5)


def test_a_word_is_the_mean_of_the_positions_that_say_its_tokens(model, images):
    caption = "a zebra"  # a word of several tokens
    spans = word_spans(model.tokenizer, model.tokenizer.encode(caption))
    (_, start, end) = spans[1]
    assert end - start > 1
    weights = cross_attention_weights(model, images[:1], [caption])[0, -1]
    found = attention_maps(model, images[0], caption)[1].weights
    torch.testing.assert_close(found.flatten(), weights[start:end].mean(dim=0))


@pytest.mark.parametrize("text", ["a dog", "x", "", "  two  spaces ", "Straße 猫が 🦊 end.", "tab\tand\nline", "a  ."])
def test_tokens_are_joined_to_the_words_between_white_space(model, text):
    ids = model.tokenizer.encode(text)
    spans = word_spans(model.tokenizer, ids)
    assert [word for word, _, _ in spans] == text.split()
    # Nothing is lost between them.
    assert [start for _, start, _ in spans[1:]] == [end for _, _, end in spans[:-1]]
    if spans:
        assert spans[0][1] == 0


def test_the_model_is_left_as_it_was(model, images):
    model.train()
    model.encoder.eval()  # a frozen encoder within a model that trains
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attention_maps(model, images[0], CAPTIONS[0])
    assert model.decoder.training
    assert not model.encoder.training
    assert all(not block.cross_attention._forward_pre_hooks for block in model.decoder.blocks)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("caption", ["", "word " * 60])
def test_an_empty_caption_has_no_map_and_a_long_one_is_cut(model, images, caption):
    maps = attention_maps(model, images[0], caption)
    assert len(maps) <= model.config.max_seq_len
    assert bool(maps) == bool(caption)
