"""`create_pixel_llm`: names, defaults and presets to a model."""

import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models import PRESETS, PixelLLM, create_pixel_llm


def test_the_call_of_the_guide():
    # On the meta device nothing is computed: the sizes alone are looked at.
    with torch.device("meta"):
        model = create_pixel_llm(image_size=224, patch_size=16, vision_embed_dim=512, vocab_size=50000)
    assert isinstance(model, PixelLLM)
    assert model.config.stem == "patch"
    assert model.num_embeddings == 50_000


def test_every_name_of_the_family_is_known():
    model = create_pixel_llm(
        image_size=(16, 32), patch_size=8, vision_embed_dim=16, vision_num_layers=1, vision_num_heads=2,
        text_embed_dim=24, text_num_layers=1, text_num_heads=3, vocab_size=300, max_seq_len=8, dropout=0.2,
    )  # fmt: skip
    assert model.config.text_width == 24
    assert model.generate(torch.zeros(1, 3, 16, 32)) != []


@pytest.mark.parametrize(
    ("preset", "rows", "expected"), [("tiny", 1_024, 3e6), ("small", 3_072, 20e6), ("base", 4_096, 90e6)]
)
def test_presets_have_the_sizes_they_are_said_to_have(preset, rows, expected):
    """With as many rows in the table as some thousand captions need."""
    with torch.device("meta"):
        model = create_pixel_llm(preset)
    width = model.config.text_width
    total = sum(each.numel() for each in model.parameters()) - (model.num_embeddings - rows) * width
    assert 0.65 * expected < total < 1.35 * expected


def test_settings_change_single_fields_of_a_preset():
    with torch.device("meta"):
        model = create_pixel_llm("tiny", text_num_layers=1)
    assert model.config.text_num_layers == 1
    assert model.config.vision_embed_dim == PRESETS["tiny"]["vision_embed_dim"]


def test_an_unknown_preset_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"'tinny'.*Did you mean 'tiny'"):
        create_pixel_llm("tinny")


def test_an_unknown_setting_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"'vision_embed'.*Did you mean 'vision_embed_dim'"):
        create_pixel_llm(vision_embed=512)


def test_the_global_seed_makes_the_weights():
    sizes = {"image_size": 16, "patch_size": 8, "vision_embed_dim": 16, "vision_num_layers": 1, "text_num_layers": 1}
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(create_pixel_llm(vocab_size=259, **sizes).decoder.token_embedding.weight)
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])
