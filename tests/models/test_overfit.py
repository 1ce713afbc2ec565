"""A small model learns a few pictures by heart, and then says their captions: the whole of the model works together."""

import pytest
import torch
from torch.nn import functional as F

from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.models import create_pixel_llm


def learn_by_heart(num_pictures, *, stem, num_steps):
    """Train on the same pictures again and again; return their captions and what the model says of them."""
    torch.manual_seed(0)
    dataset = ShapesDataset(num_pictures, image_size=32, seed=3, fresh_each_epoch=False)
    images = torch.stack([dataset[index]["image"] for index in range(num_pictures)])
    captions = [dataset[index]["caption"] for index in range(num_pictures)]
    model = create_pixel_llm(
        image_size=32, patch_size=8, stem=stem, vision_embed_dim=64, vision_num_layers=2, text_num_layers=2,
        vocab_size=400, max_seq_len=48, dropout=0.0,
    )  # fmt: skip
    model.fit_tokenizer(captions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    batch = model.encode_captions(captions)
    targets = batch.targets.flatten()[batch.supervised]
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 10) * (1 - step / num_steps)
        optimizer.zero_grad()
        F.cross_entropy(model(images, batch.input_ids, positions=batch.supervised), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return captions, model.generate(images)


@pytest.mark.parametrize(("stem", "num_pictures", "num_steps"), [("conv", 8, 120), ("patch", 8, 140)])
def test_pictures_learned_by_heart_are_said_exactly(stem, num_pictures, num_steps):
    captions, said = learn_by_heart(num_pictures, stem=stem, num_steps=num_steps)
    assert len(set(captions)) == num_pictures
    assert said == captions
