"""A checkpoint of each version of the format, as a program of that time wrote it, is still read."""

import shutil
from pathlib import Path

import pytest
import torch

from systems.pixel_llm.checkpoint_folder import FORMAT_VERSION, read_manifest
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training import CheckpointManager

RELEASED = Path(__file__).parent / "released"


def test_there_is_one_of_each_version():
    assert sorted(path.name for path in RELEASED.iterdir()) == [
        f"version_{version}" for version in range(1, FORMAT_VERSION + 1)
    ]


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_it_is_read_whole(tmp_path, version):
    shutil.copytree(RELEASED / f"version_{version}", tmp_path / "epoch_1")
    assert read_manifest(tmp_path / "epoch_1")["version"] == version
    model = PixelLLM(PixelLLM.from_pretrained(tmp_path / "epoch_1").config)
    optimizer = torch.optim.AdamW(model.parameters())
    info = CheckpointManager(tmp_path).load_latest(model, optimizer)
    assert (info["epoch"], info["metric"], info["training_state"], info["skipped"]) == (1, 0.5, {"a": 1}, [])
    own = dict(model.named_parameters())
    assert info["average"].keys() == own.keys()
    for name, average in info["average"].items():
        assert torch.equal(average, own[name].detach() * 0.5)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert all(state["step"] == 1 for state in optimizer.state.values())
    captions = Captioner.from_checkpoint(tmp_path / "epoch_1").caption([torch.zeros(3, 16, 16)])
    assert len(captions) == 1
