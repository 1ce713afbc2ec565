"""The formula for a model's operations, against what torch counts as the model runs."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.models.flops import forward_flops, training_flops

NUM_IMAGES, LENGTH = 2, 7


def made_model(**settings: Any) -> PixelLLM:
    """In bf16, where attention on a processor is plain products, all of which torch counts."""
    sizes = {
        "image_size": (32, 64), "patch_size": 16, "vision_embed_dim": 48, "vision_num_layers": 2, "text_embed_dim": 32,
        "text_num_layers": 3, "mlp_ratio": 2.3, "vocab_size": 300, "dropout": 0.0,
    }  # fmt: skip
    return create_pixel_llm(**sizes | settings).bfloat16()


def run(model: PixelLLM, captions_a_picture: int, *, backward: bool) -> int:
    """Operations of a pass over captions of one length, as torch counts them."""
    images = torch.randn(NUM_IMAGES, 3, *model.config.image_height_width, dtype=torch.bfloat16)
    num_captions = NUM_IMAGES * captions_a_picture
    ids = torch.randint(0, 300, (num_captions, LENGTH))
    index = torch.arange(num_captions) // captions_a_picture
    with FlopCounterMode(display=False) as counter:
        logits = model(images, ids, positions=torch.arange(ids.numel()), image_index=index)
        if backward:
            logits.float().sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("captions_a_picture", [1, 3])
@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_the_forward_pass_is_what_torch_counts(stem: str, captions_a_picture: int) -> None:
    model = made_model(stem=stem)
    num_captions = NUM_IMAGES * captions_a_picture
    of_images, of_captions = forward_flops(
        model.config, num_images=NUM_IMAGES, num_captions=num_captions, num_tokens=num_captions * LENGTH, vocab=300
    )
    assert of_images + of_captions == run(model, captions_a_picture, backward=False)


@pytest.mark.parametrize(("stem", "first_layer"), [("patch", 2 * 8 * 768 * 48), ("conv", 2 * 16 * 32 * 9 * 3 * 16)])
def test_the_backward_pass_is_twice_that_but_for_the_gradient_of_the_pixels(stem: str, first_layer: int) -> None:
    model = made_model(stem=stem)
    flops = training_flops(
        model.config, num_images=NUM_IMAGES, num_captions=NUM_IMAGES, num_tokens=NUM_IMAGES * LENGTH, vocab=300
    )
    assert flops - NUM_IMAGES * first_layer == run(model, 1, backward=True)


def test_unequal_captions_count_without_padding() -> None:
    """Twice the pictures and captions are twice the operations; more tokens cost more than in proportion."""
    config = made_model().config
    sizes = {"num_images": 4, "num_captions": 4, "vocab": 300}
    once = training_flops(config, num_tokens=40, **sizes)
    assert training_flops(config, num_images=8, num_captions=8, num_tokens=80, vocab=300) == 2 * once
    of_captions = [forward_flops(config, num_tokens=count, **sizes)[1] for count in (40, 80)]
    assert of_captions[1] > 2 * of_captions[0]


def test_no_caption_is_no_operation_of_the_decoder() -> None:
    assert forward_flops(made_model().config, num_images=0, num_captions=0, num_tokens=0, vocab=300) == (0, 0)
