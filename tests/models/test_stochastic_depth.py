"""Stochastic depth against what the paper promises: which samples, which layers, how often, and nothing in eval."""

import json

import pytest
import torch
from torch import nn

from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.models.layers import StochasticDepth


def last_layer(rate: float) -> StochasticDepth:
    return StochasticDepth(rate, layer=0, num_layers=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_samples_are_dropped_each_by_its_own_draw(dtype):
    torch.manual_seed(0)
    branch = torch.randn(4000, 3, 5).to(dtype)
    result = last_layer(0.25)(branch)
    assert result.dtype == dtype
    is_dropped = (result == 0).flatten(1).all(dim=1)
    torch.testing.assert_close(result[~is_dropped], branch[~is_dropped] / 0.75, rtol=1e-2, atol=0)
    share = float(is_dropped.float().mean())
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5  # five standard deviations
    assert 0 < int(is_dropped[:20].sum()) < 20, "not the whole batch at once"


def test_the_expected_value_is_the_branch():
    torch.manual_seed(1)
    branch = torch.randn(2, 3, 4)
    layer, num_draws = last_layer(0.4), 10_000
    mean = torch.stack([layer(branch) for _ in range(num_draws)]).mean(dim=0)
    deviation = branch.abs() * (0.4 / 0.6 / num_draws) ** 0.5
    assert bool(((mean - branch).abs() < 5 * deviation).all())


def test_the_deeper_the_more_is_dropped_by_the_linear_rule(tiny_model):
    model = tiny_model(stochastic_depth=0.3, vision_num_layers=3, text_num_layers=2)
    rates = [[block.stochastic_depth.rate for block in part.blocks] for part in (model.encoder, model.decoder)]
    assert rates[0] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[1] == pytest.approx([0.15, 0.3])


def test_no_gradient_comes_through_a_dropped_branch():
    torch.manual_seed(2)
    branch = torch.randn(50, 2, 3, requires_grad=True)
    result = last_layer(0.5)(branch)
    result.sum().backward()
    is_dropped = (result == 0).flatten(1).all(dim=1)
    assert 0 < int(is_dropped.sum()) < 50
    assert bool((branch.grad[is_dropped] == 0).all())
    assert bool((branch.grad[~is_dropped] == 2).all())


@pytest.mark.parametrize(("layer", "is_training"), [(last_layer(0.0), True), (last_layer(0.9), False)])
def test_nothing_is_drawn_or_computed_at_a_chance_of_0_or_outside_training(layer, is_training):
    layer.train(is_training)
    branch, state = torch.randn(3, 2, 2), torch.get_rng_state()
    assert layer(branch) is branch
    assert torch.equal(torch.get_rng_state(), state)


def batch_of(model: PixelLLM) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    return torch.randn(6, 3, *model.config.image_height_width), torch.randint(0, 300, (6, 9))


def test_in_eval_mode_the_model_is_as_without(tiny_model):
    plain, deep = tiny_model(), tiny_model(stochastic_depth=0.5)
    images, ids = batch_of(plain)
    assert torch.equal(deep(images, ids), plain(images, ids))
    plain.train(), deep.train()
    assert not torch.equal(deep(images, ids), plain(images, ids))


def test_a_dropped_sample_passes_every_kind_of_block_by(tiny_model):
    """At a chance near 1 in the only block, what comes in goes out, in both towers, and no map of it learns."""
    model = tiny_model(stochastic_depth=0.999999, vision_num_layers=1, text_num_layers=1, dropout=0.0).train()
    images, ids = batch_of(model)
    hidden = model.encoder.stem(images) + model.encoder.position_embedding.weight
    assert torch.equal(model.encoder(images), model.encoder.norm(hidden))
    model(images, ids).square().sum().backward()
    maps = [m for block in (*model.encoder.blocks, *model.decoder.blocks) for m in block.modules()]
    gradients = [m.weight.grad for m in maps if isinstance(m, nn.Linear)]
    assert len(gradients) == 4 + 6
    assert not any(bool(gradient.any()) for gradient in gradients)
    assert bool(model.decoder.token_embedding.weight.grad.any())


def test_a_model_saved_before_there_was_such_a_setting_is_read(tiny_model, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("stochastic_depth") == 0.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    images, ids = batch_of(model)
    assert torch.equal(PixelLLM.from_pretrained(tmp_path)(images, ids), model(images, ids))


def test_weights_go_into_a_model_that_is_trained_with_another_chance(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model = tiny_model(stochastic_depth=0.2)
    model.load_weights(tmp_path)
    assert model.config.stochastic_depth == 0.2
