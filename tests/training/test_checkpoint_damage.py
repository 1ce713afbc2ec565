"""Bytes flipped and files cut, anywhere in a checkpoint: none is ever loaded, and the newest good one is."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.training import CheckpointManager

FILES = {
    "MANIFEST.json", "average.safetensors", "config.json", "model.safetensors", "optimizer.safetensors",
    "preprocessing.json", "tokenizer.json", "training_state.json",
}  # fmt: skip


def make_model(seed: int) -> tuple[PixelLLM, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = create_pixel_llm(
        image_size=16, patch_size=8, vision_embed_dim=16, vocab_size=300, vision_num_layers=1, text_num_layers=1,
        max_seq_len=16,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, 16, 16), ["a square"]).sum().backward()
    optimizer.step()
    return model, optimizer


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def count_refusals(folder: Path, *, num_damages: int) -> dict[str, int]:
    """Damage each file of a checkpoint in turn; the number of damages refused, by file.

    Beside the damaged one lies an older checkpoint of another, quicker model, which `load_latest` must come to.
    """
    manager = CheckpointManager(folder)
    older = nn.Linear(2, 2)
    manager.save("older", older)
    model, optimizer = make_model(0)
    path = manager.save(
        "newer", model, optimizer, average={name: each.detach() for name, each in model.named_parameters()}
    )
    assert {each.name for each in path.iterdir()} == FILES
    other, its_optimizer = make_model(1)
    before = state_of(other)
    generator = random.Random(num_damages)
    refusals = dict.fromkeys(sorted(FILES), 0)
    for number in range(num_damages):
        file = path / sorted(FILES)[number % len(FILES)]
        whole = file.read_bytes()
        place = generator.randrange(len(whole))
        if generator.random() < 0.5:
            file.write_bytes(whole[:place])
        else:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ generator.randrange(1, 256)]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=str(path)):
            manager.load("newer", other, its_optimizer)
        info: dict[str, Any] = manager.load_latest(older)
        assert (info["name"], info["skipped"]) == ("older", ["newer"])
        refusals[file.name] += 1
        file.write_bytes(whole)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    manager.load("newer", other, its_optimizer)  # it is the damage that was refused
    assert torch.equal(other.decoder.token_embedding.weight, model.decoder.token_embedding.weight)
    return refusals


def test_every_flip_and_cut_is_refused(tmp_path: Path) -> None:
    refusals = count_refusals(tmp_path, num_damages=200)
    assert sum(refusals.values()) == 200
    assert min(refusals.values()) == 25


@pytest.mark.slow
def test_ten_thousand_flips_and_cuts_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("ERROR"):
        refusals = count_refusals(tmp_path, num_damages=10_000)
    print(f"{sum(refusals.values())} of 10000 flips and cuts refused and passed over: {refusals}")
    assert sum(refusals.values()) == 10_000
