"""Gradient checkpointing: the same losses and gradients to the bit, and less kept for the backward pass."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional as F

from systems.pixel_llm.models import PixelLLM

REGULARISED = {"dropout": 0.2, "stochastic_depth": 0.3}


def loss_and_gradients(
    model: PixelLLM, *, precision: str = "fp32", captions_per_image: int = 1
) -> tuple[torch.Tensor, list[torch.Tensor], int, torch.Tensor]:
    """Loss, gradients, bytes kept for the backward pass beside the parameters, and the next draw of the generator."""
    torch.manual_seed(5)
    images = torch.randn(6, 3, *model.config.image_height_width)
    ids = torch.randint(0, 300, (6 * captions_per_image, 9))
    image_index = None if captions_per_image == 1 else torch.arange(6).repeat_interleave(captions_per_image)
    targets = torch.randint(0, 300, (ids.numel(),))
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.zero_grad()
    is_bf16 = precision == "bf16"
    with torch.autocast("cpu", torch.bfloat16) if is_bf16 else nullcontext():
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logits = model(images, ids, image_index=image_index)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets)
    next_draw = torch.rand(())
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return loss.detach(), gradients, sum(kept.values()), next_draw  # type: ignore[return-value]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("captions_per_image", [1, 3])
@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_losses_and_gradients_are_the_same_to_the_bit_and_less_is_kept(tiny_model, precision, captions_per_image, stem):
    settings = {"precision": precision, "captions_per_image": captions_per_image}
    model = tiny_model(**REGULARISED, stem=stem, vision_num_layers=4, text_num_layers=4).train()
    assert not model.gradient_checkpointing
    loss, gradients, kept, next_draw = loss_and_gradients(model, **settings)
    assert float(loss_and_gradients(model.eval(), **settings)[0]) != float(loss), "something was dropped"
    model.train()
    model.gradient_checkpointing = True
    again, recomputed, less, draw = loss_and_gradients(model, **settings)
    assert torch.equal(again, loss)
    assert all(torch.equal(one, other) for one, other in zip(recomputed, gradients, strict=True))
    assert torch.equal(draw, next_draw), "what is drawn afterwards is the same"
    assert less < 0.5 * kept


def test_without_gradients_nothing_changes(tiny_model):
    model = tiny_model()
    images = torch.randn(2, 3, *model.config.image_height_width)
    plain = model.generate(images)
    model.gradient_checkpointing = True
    assert model.generate(images) == plain


def test_a_cache_is_never_written_twice(tiny_model):
    """Where gradients happen to be on beside a cache, its blocks are computed once, as without the setting."""
    model = tiny_model()
    features = model.encode_images(torch.randn(2, 3, *model.config.image_height_width)).detach()
    ids = torch.randint(0, 300, (2, 5))
    plain = model.decode(ids, features, cache=model.make_cache(features))
    model.gradient_checkpointing = True
    cache = model.make_cache(features)
    assert torch.equal(model.decode(ids, features, cache=cache), plain)
    assert cache.length == 5
