"""Pixels to image features: both stems make the same grid, row by row, of square pictures and others."""

import pytest
import torch
from torch.nn import functional as F

from systems.pixel_llm.models import PixelLLMConfig
from systems.pixel_llm.models.vision import ConvStem, PatchStem, VisionEncoder


@pytest.mark.parametrize("stem", ["patch", "conv"])
@pytest.mark.parametrize(("image_size", "patch_size"), [(32, 8), ((16, 48), 8), ((64, 32), 16), (32, 32), (8, 2)])
def test_both_stems_give_the_same_grid(stem, image_size, patch_size):
    config = PixelLLMConfig(
        image_size=image_size, patch_size=patch_size, stem=stem, vision_embed_dim=40, vision_num_layers=1
    )
    height, width = config.image_height_width
    features = VisionEncoder(config)(torch.randn(2, 3, height, width))
    assert features.shape == (2, height // patch_size * (width // patch_size), 40)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (16, 40), (40, 8)])
def test_the_patch_stem_is_a_convolution_of_its_own_stride(height, width):
    stem = PatchStem(8, 20)
    images = torch.randn(2, 3, height, width)
    kernel = stem.projection.weight.view(20, 3, 8, 8)
    expected = F.conv2d(images, kernel, stem.projection.bias, stride=8).flatten(2).transpose(1, 2)
    torch.testing.assert_close(stem(images), expected, atol=1e-5, rtol=1e-5)


def test_the_patch_stem_takes_any_memory_layout():
    stem = PatchStem(8, 20)
    images = torch.randn(2, 3, 16, 24)
    torch.testing.assert_close(stem(images.to(memory_format=torch.channels_last)), stem(images))


@pytest.mark.parametrize("kind", [PatchStem, ConvStem])
def test_tokens_run_row_by_row(kind):
    """A change in the top right corner shows in the last token of the first row (a convolution: or just below)."""
    torch.manual_seed(0)
    stem = kind(16, 32)
    images = torch.zeros(1, 3, 48, 64)
    changed = images.clone()
    changed[:, :, :16, 48:] = torch.randn(1, 3, 16, 16) * 4
    change = (stem(changed) - stem(images)).norm(dim=-1)[0]
    assert change.shape == (12,)
    if kind is PatchStem:
        assert change.nonzero().flatten().tolist() == [3]
    else:
        assert int(change.argmax()) in (3, 7)


@pytest.mark.parametrize("width", [10, 16, 100, 192])
def test_the_conv_stem_takes_any_width(width):
    assert ConvStem(16, width)(torch.randn(1, 3, 32, 32)).shape == (1, 4, width)


def test_each_picture_is_seen_on_its_own():
    """No norm or product mixes the pictures of a batch."""
    torch.manual_seed(0)
    config = PixelLLMConfig(image_size=32, patch_size=8, stem="conv", vision_embed_dim=32, vision_num_layers=2)
    encoder = VisionEncoder(config).eval()
    images = torch.randn(3, 3, 32, 32)
    alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(encoder(images), alone, atol=1e-5, rtol=1e-5)


def test_the_place_of_a_patch_matters():
    torch.manual_seed(0)
    config = PixelLLMConfig(image_size=16, patch_size=8, vision_embed_dim=32, vision_num_layers=1)
    encoder = VisionEncoder(config).eval()
    image = torch.randn(1, 3, 16, 16)
    swapped = image.roll(8, dims=3)  # the two columns of patches change places
    assert not torch.allclose(encoder(image)[:, [1, 0, 3, 2]], encoder(swapped), atol=1e-3)
