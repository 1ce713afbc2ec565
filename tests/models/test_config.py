"""The sizes of a model: defaults, limits, and settings that clash, each named."""

import math

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models import PRESETS, PixelLLMConfig


def test_the_defaults_are_those_of_the_guide():
    config = PixelLLMConfig()
    assert (config.image_size, config.patch_size, config.stem) == (224, 16, "patch")
    assert (config.vision_num_layers, config.text_num_layers) == (6, 6)
    assert (config.max_seq_len, config.dropout, config.vocab_size) == (128, 0.1, 50_000)
    assert (config.vision_heads, config.text_width, config.text_heads) == (8, 512, 8)
    assert config.grid == (14, 14)


def test_what_is_left_out_follows_the_width():
    config = PixelLLMConfig(vision_embed_dim=48, text_embed_dim=192)
    assert (config.vision_heads, config.text_width, config.text_heads) == (1, 192, 3)


def test_image_size_is_one_side_or_height_and_width():
    config = PixelLLMConfig(image_size=(32, 48), patch_size=8)
    assert config.image_height_width == (32, 48)
    assert config.grid == (4, 6)
    assert PixelLLMConfig(image_size=[32, 48], patch_size=8) == config
    assert PixelLLMConfig(image_size=32, patch_size=8).image_height_width == (32, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 100, "patch_size": 16}, r"image_size=100 is not a multiple of patch_size=16.*96 x 96"),
        ({"image_size": (64, 40), "patch_size": 16}, r"image_size=\(64, 40\).*patch_size=16.*64 x 32"),
        ({"image_size": 8, "patch_size": 16}, r"image_size=8.*patch_size=16"),
        ({"stem": "conv", "patch_size": 14}, r"stem='conv'.*patch_size=14"),
        ({"stem": "conv", "patch_size": 1}, r"stem='conv'.*patch_size=1\b"),
        ({"vision_embed_dim": 100, "vision_num_heads": 3}, r"vision_embed_dim=100.*vision_num_heads=3"),
        ({"text_embed_dim": 100, "text_num_heads": 8}, r"text_embed_dim=100.*text_num_heads=8"),
        ({"vision_embed_dim": 16, "mlp_ratio": 0.01}, r"mlp_ratio=0.01.*vision_embed_dim=16"),
        ({"text_embed_dim": 16, "mlp_ratio": 0.01}, r"mlp_ratio=0.01.*text_embed_dim=16"),
    ],
)  # fmt: skip
def test_a_clash_names_both_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        PixelLLMConfig(**settings)


@pytest.mark.parametrize("value", [0, -8, 8.0, "8", True, float("nan"), 10**9, 2**70])
@pytest.mark.parametrize(
    "name", ["image_size", "patch_size", "vision_embed_dim", "vision_num_layers", "vision_num_heads",
             "text_embed_dim", "text_num_layers", "text_num_heads", "vocab_size", "max_seq_len"],
)  # fmt: skip
def test_a_size_is_a_whole_number_in_range(name, value):
    with pytest.raises(ConfigError, match=name):
        PixelLLMConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", (64,)), ("image_size", (64, 64, 3)), ("image_size", "64"), ("image_size", (64, 0)),
        ("max_seq_len", 1), ("vocab_size", 258), ("stem", "mlp"), ("stem", ["conv"]),
        ("dropout", -0.1), ("dropout", 1.0), ("dropout", math.nan), ("dropout", "0.1"), ("dropout", None),
        ("stochastic_depth", -0.1), ("stochastic_depth", 1), ("stochastic_depth", math.nan), ("stochastic_depth", True),
        ("mlp_ratio", 0), ("mlp_ratio", math.inf), ("mlp_ratio", math.nan), ("mlp_ratio", "4"), ("mlp_ratio", 10**30),
    ],
)  # fmt: skip
def test_a_value_out_of_range_names_its_setting(name, value):
    with pytest.raises(ConfigError, match=name):
        PixelLLMConfig(**{name: value})


def test_a_record_survives_its_dictionary():
    config = PixelLLMConfig(image_size=(64, 32), stem="conv", text_num_heads=4, dropout=0.0)
    assert PixelLLMConfig.from_dict(config.to_dict()) == config


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"'patchsize'.*Did you mean 'patch_size'"):
        PixelLLMConfig.from_dict({"patchsize": 16})


def test_the_record_is_frozen():
    with pytest.raises(AttributeError):
        PixelLLMConfig().patch_size = 8


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_sound(preset):
    assert PixelLLMConfig(**PRESETS[preset]).stem == "conv"
