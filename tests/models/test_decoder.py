"""The decoder: no look ahead, the same logits with and without the cache, the picture's keys and values per block."""

import pytest
import torch

from systems.pixel_llm.models.kv_cache import KVCache


@pytest.fixture
def model(tiny_model):
    return tiny_model()


@pytest.fixture
def image_features():
    return torch.randn(3, 6, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def input_ids():
    return torch.randint(3, 259, (3, 10), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_no_position_sees_a_later_token(model, image_features, input_ids):
    logits = model.decode(input_ids, image_features)
    for place in range(10):
        changed = input_ids.clone()
        changed[:, place] = (changed[:, place] - 3 + 17) % 256 + 3
        difference = (model.decode(changed, image_features) - logits).abs().amax(dim=(0, 2))
        assert float(difference[:place].max() if place else 0.0) < 1e-5
        assert float(difference[place]) > 1e-2
        assert float(difference[-1]) > 1e-4  # every earlier token is seen


@torch.no_grad()
def test_what_comes_after_a_caption_does_not_matter(model, image_features, input_ids):
    logits = model.decode(input_ids[:, :6], image_features)
    padded = torch.cat([input_ids[:, :6], torch.zeros(3, 4, dtype=torch.long)], dim=1)
    torch.testing.assert_close(model.decode(padded, image_features)[:, :6], logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("steps", [[1] * 10, [10], [4, 6], [1, 3, 1, 5], [7, 1, 1, 1]])
def test_the_cache_changes_nothing(model, image_features, input_ids, steps):
    expected = model.decode(input_ids, image_features)
    cache = model.make_cache(image_features)
    pieces = []
    for step in steps:
        start = cache.length
        pieces.append(model.decode(input_ids[:, start : start + step], image_features, cache=cache))
    assert cache.length == 10
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_positions_pick_logits(model, image_features, input_ids):
    logits = model.decode(input_ids, image_features)
    positions = torch.tensor([0, 7, 7, 13, 29, 2])
    picked = model.decode(input_ids, image_features, positions=positions)
    torch.testing.assert_close(picked, logits.flatten(0, 1)[positions], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_look_at_gives_each_block_its_own_keys_and_values(model, image_features):
    keys_values = model.decoder.look_at(image_features)
    projected = model.decoder.cross_keys_values(image_features)  # [B, N, layers * 2 * D]
    assert len(keys_values) == 2
    for layer, (key, value) in enumerate(keys_values):
        for place, heads in enumerate((key, value)):
            start = (2 * layer + place) * 24
            plain = projected[..., start : start + 24].unflatten(-1, (3, 8)).transpose(1, 2)
            assert torch.equal(heads, plain)
    # For generation they are laid out once: a gather at each token would cost more than the token.
    assert all(each.is_contiguous() for pair in model.make_cache(image_features).cross_keys_values for each in pair)


@torch.no_grad()
def test_each_caption_sees_its_own_picture(model, image_features, input_ids):
    logits = model.decode(input_ids, image_features)
    changed = image_features.clone()
    changed[1] = changed[1].flip(1)
    difference = (model.decode(input_ids, changed) - logits).abs().amax(dim=(1, 2))
    assert float(difference[1]) > 1e-2
    assert float(difference[[0, 2]].max()) < 1e-5


@torch.no_grad()
def test_image_tokens_have_no_order_for_the_decoder(model, image_features, input_ids):
    """Their places are in their features already."""
    order = torch.tensor([5, 2, 0, 1, 4, 3])
    expected = model.decode(input_ids, image_features)
    torch.testing.assert_close(model.decode(input_ids, image_features[:, order]), expected, atol=1e-4, rtol=1e-4)


def test_the_cache_returns_all_positions_so_far():
    cross = [(torch.zeros(2, 3, 5, 4), torch.zeros(2, 3, 5, 4))] * 2
    cache = KVCache(cross, max_length=6)
    key, value = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
    for start, end in ((0, 2), (2, 3), (3, 6)):
        for layer in (0, 1):
            keys, values = cache.update(layer, key[:, :, start:end] + layer, value[:, :, start:end] + layer)
            assert torch.equal(keys, key[:, :, :end] + layer)
            assert torch.equal(values, value[:, :, :end] + layer)
        cache.advance(end - start)
        assert cache.length == end
