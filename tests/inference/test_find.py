"""From a name to the folder of weights meant by it."""

import pytest
import torch

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.inference import Captioner, find_checkpoint
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.training import CheckpointManager


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_pixel_llm(
        image_size=16, patch_size=8, vision_embed_dim=16, vision_num_layers=1, text_num_layers=1, vocab_size=259,
        max_seq_len=4,
    )  # fmt: skip


@pytest.fixture
def save(model, tmp_path):
    """Call it as `save(name=metric, ...)`: checkpoints of a run, in this order. Returns the run folder."""

    def save_all(**metrics):
        manager = CheckpointManager(tmp_path / "run" / "checkpoints", max_checkpoints=9)
        for epoch, (name, metric) in enumerate(metrics.items()):
            manager.save(name, model, epoch=epoch, metric=metric)
        return tmp_path / "run"

    return save_all


def test_of_a_run_the_best_checkpoint_is_meant(save):
    run = save(epoch_1=3.0, epoch_2=1.0, epoch_3=2.0)
    best = run / "checkpoints" / "epoch_2"
    assert find_checkpoint(run) == best
    assert find_checkpoint(str(run)) == best
    assert find_checkpoint(run / "checkpoints") == best


def test_a_checkpoint_is_meant_itself(save):
    checkpoint = save(epoch_1=3.0, epoch_2=1.0) / "checkpoints" / "epoch_1"
    assert find_checkpoint(checkpoint) == checkpoint


def test_without_metrics_the_newest_is_meant(save):
    run = save(zulu=None, alpha=None)
    assert find_checkpoint(run).name == "alpha"


def test_one_with_a_metric_comes_before_newer_ones_without(save):
    assert find_checkpoint(save(epoch_1=9.0, epoch_2=None)).name == "epoch_1"


def test_a_damaged_best_one_is_passed_over(save, caplog):
    run = save(epoch_1=2.0, epoch_2=1.0)
    with (run / "checkpoints" / "epoch_2" / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    assert find_checkpoint(run).name == "epoch_1"
    assert "epoch_2" in caplog.text


def test_another_than_the_best_can_be_named(save):
    run = save(epoch_1=3.0, epoch_2=1.0)
    assert find_checkpoint(run, name="epoch_1") == run / "checkpoints" / "epoch_1"
    assert find_checkpoint(run / "checkpoints", name="epoch_1") == run / "checkpoints" / "epoch_1"
    with pytest.raises(CheckpointError, match="Did you mean 'epoch_2'"):
        find_checkpoint(run, name="epoch_22")
    with pytest.raises(ConfigError, match="is one model"):
        find_checkpoint(run / "checkpoints" / "epoch_1", name="epoch_1")


def test_a_saved_model_is_meant_itself(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    assert find_checkpoint(tmp_path / "model") == tmp_path / "model"


def test_the_captioner_takes_a_run(save):
    assert Captioner.from_checkpoint(save(epoch_1=1.0), device="cpu").model.config.max_seq_len == 4


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere.*no such folder"):
        find_checkpoint(tmp_path / "nowhere")


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="no such folder"):
        find_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("inner", [".", "checkpoints", "checkpoints/epoch_1", "pictures"])
def test_a_folder_without_a_checkpoint(tmp_path, inner):
    (tmp_path / "run" / inner).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"run holds no checkpoint"):
        find_checkpoint(tmp_path / "run")


def test_only_damaged_checkpoints_are_none(save):
    run = save(epoch_1=1.0)
    (run / "checkpoints" / "epoch_1" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_checkpoint(run)
