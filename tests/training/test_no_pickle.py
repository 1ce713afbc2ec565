"""Nothing is ever pickled or unpickled: not in training, saving, loading and resuming, nor in captioning."""

import io
import pickle
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from systems.pixel_llm.data import ImageCaptionDataset, make_loader
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import PixelLLM, create_pixel_llm, load_weights_file
from systems.pixel_llm.training import CheckpointManager, Trainer


@pytest.fixture
def without_pickle(monkeypatch):
    """All ways into pickle raise."""

    def refuse(*args, **kwargs):
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler", "_Unpickler", "_Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    load = numpy.load

    def load_arrays(*args, **kwargs):
        if kwargs.get("allow_pickle"):
            refuse()
        return load(*args, **kwargs)

    monkeypatch.setattr(numpy, "load", load_arrays)
    with pytest.raises(AssertionError, match="pickle was used"):
        pickle.loads(b"")


def make_trainer(folder: Path) -> Trainer:
    torch.manual_seed(0)
    dataset = ImageCaptionDataset(folder / "pictures", image_size=(16, 16))
    loader = make_loader(dataset, batch_size=2, shuffle=True, num_workers=0)
    model = create_pixel_llm(
        image_size=16, patch_size=8, vision_embed_dim=16, vocab_size=300, vision_num_layers=1, text_num_layers=1
    )
    return Trainer(model, loader, loader, checkpoint_dir=folder / "checkpoints", progress="off", ema_decay=0.9)


@pytest.mark.usefixtures("without_pickle")
def test_save_load_resume_and_caption_without_it(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        Image.new("RGB", (20, 20), (60 * number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
        (tmp_path / "pictures" / f"{number}.txt").write_text(f"a square of shade {number}")
    make_trainer(tmp_path).train(1)
    trainer = make_trainer(tmp_path)
    trainer.train(2, resume_from="epoch_1")
    assert trainer.state.epoch == 2
    manager = CheckpointManager(tmp_path / "checkpoints")
    for load in (manager.load_best, manager.load_latest):
        load(trainer.model, trainer.optimizer)
    manager.load("epoch_1", trainer.model, strict=False)
    captioner = Captioner.from_checkpoint(tmp_path / "checkpoints", device="cpu")
    assert len(captioner.caption([str(tmp_path / "pictures" / "0.png")])) == 1
    captioner.model.save_pretrained(tmp_path / "model")
    PixelLLM.from_pretrained(tmp_path / "model").load_weights(tmp_path / "model" / "model.safetensors")


class Canary:
    """Unpickled, it would leave its mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_named_as_weights_is_not_opened(tmp_path):
    mark, content = tmp_path / "mark", io.BytesIO()
    torch.save({"weight": Canary(mark)}, content)
    model = torch.nn.Linear(2, 2)
    manager = CheckpointManager(tmp_path / "checkpoints")
    for pickled in (content.getvalue(), pickle.dumps(Canary(mark))):
        path = manager.save("a", model)
        (path / "model.safetensors").write_bytes(pickled)
        with pytest.raises(CheckpointError, match="damaged"):
            manager.load("a", model)
        (tmp_path / "model.safetensors").write_bytes(pickled)
        with pytest.raises(CheckpointError, match="it is a pickle"):
            load_weights_file(model, tmp_path / "model.safetensors")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Canary(mark)))
    assert mark.exists()


def test_a_pickle_beside_a_checkpoint_is_never_looked_at(tmp_path):
    mark = tmp_path / "mark"
    model = torch.nn.Linear(2, 2)
    manager = CheckpointManager(tmp_path)
    path = manager.save("a", model)
    for name in ("model.pt", "pytorch_model.bin", "optimizer.pt"):
        torch.save({"weight": Canary(mark)}, path / name)
    assert manager.load("a", model)["left"] == {}
    assert not mark.exists()
