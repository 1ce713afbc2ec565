"""CheckpointManager: best, latest and pruning from the disk; damage and full disks lose nothing."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.training.checkpoint import CheckpointManager


def make(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    return model, torch.optim.AdamW(model.parameters(), fused=True)


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()


def snapshot(model, optimizer=None):
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    for index, state in (optimizer.state_dict()["state"] if optimizer else {}).items():
        tensors |= {f"{index}.{key}": value.clone() for key, value in state.items()}
    return tensors


def is_equal(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def manager(tmp_path):
    return CheckpointManager(tmp_path / "checkpoints")


def test_info_tells_what_was_saved(manager):
    model, optimizer = make()
    state = {"history": {"val_losses": [0.5, float("inf")]}, "pair": (1, 2), "by_step": {3: None}}
    path = manager.save("epoch_5", model, optimizer, epoch=5, metric=torch.tensor(0.25), training_state=state)
    assert path == manager.checkpoint_dir / "epoch_5"
    assert manager.load("epoch_5", model, optimizer, device="cpu") == {
        "name": "epoch_5", "path": path, "epoch": 5, "metric": 0.25, "sequence": 1, "training_state": state,
        "average": None, "skipped": [], "left": {},
    }  # fmt: skip


def test_wrong_settings_are_refused(tmp_path, manager):
    model, _ = make()
    for settings in ({"max_checkpoints": 0}, {"metric_mode": "lowest"}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            CheckpointManager(tmp_path, **settings)
    for name in ("../a", "", "a/b", ".a"):
        with pytest.raises(ConfigError, match="cannot name a checkpoint"):
            manager.save(name, model)
        with pytest.raises(ConfigError, match="cannot name a checkpoint"):
            manager.load(name, model)
    with pytest.raises(ConfigError, match="metric must be a number"):
        manager.save("a", model, metric="low")
    manager.save("a", model)
    with pytest.raises(ConfigError, match="device"):
        manager.load("a", model, device="abacus")
    with pytest.raises(CheckpointError, match="has no checkpoint 'b'"):
        manager.load("b", model)
    assert not (tmp_path / "a").exists()


# --- best, latest, pruning --------------------------------------------------------------------------------------------


def save_series(manager, metrics, **settings):
    model, _ = make()
    for number, metric in enumerate(metrics):
        manager.save(f"e{number}", model, epoch=number, metric=metric, **settings)
    return model


def kept(manager):
    return [record.name for record in manager.list()]


def test_the_best_the_newest_two_and_the_kept_stay(manager):
    manager.protect("e4")
    model = save_series(manager, [0.1, 0.9, 0.2, 0.3, 0.8, 0.7])
    assert kept(manager) == ["e0", "e2", "e3", "e4", "e5"]
    manager.save("pinned", model, metric=0.95, keep=True)
    for number in (6, 7, 8):
        manager.save(f"e{number}", model, metric=0.9)
    assert kept(manager) == ["e0", "e2", "e3", "e4", "pinned", "e7", "e8"]
    assert kept(CheckpointManager(manager.checkpoint_dir)) == kept(manager)
    assert names_in(manager.checkpoint_dir) == sorted(kept(manager))
    assert manager.best().name == "e0"
    assert manager.latest().name == "e8"


def test_for_a_metric_to_maximise(tmp_path):
    manager = CheckpointManager(tmp_path, max_checkpoints=1, metric_mode="max")
    model = save_series(manager, [0.1, 0.9, 0.2, 0.3, 0.4])
    assert kept(manager) == ["e1", "e3", "e4"]
    assert manager.load_best(model)["name"] == "e1"


def test_a_metric_that_is_not_finite_is_never_best_and_blocks_nothing(manager):
    model = save_series(manager, [float("nan"), 0.5, float("-inf"), None, 0.4, 0.6, 0.7, float("nan")])
    assert kept(manager) == ["e1", "e4", "e5", "e6", "e7"]
    info = manager.load_latest(model)
    assert (info["name"], info["metric"]) == ("e7", None)
    assert manager.load_best(model)["name"] == "e4"


def test_without_metrics_the_newest_are_kept(manager):
    model = save_series(manager, [None] * 6)
    assert kept(manager) == ["e3", "e4", "e5"]
    assert manager.best() is None
    with pytest.raises(CheckpointError, match="has a metric"):
        manager.load_best(model)


def test_hand_deleted_and_copied_folders_are_taken_as_they_are(manager):
    model = save_series(manager, [0.1, 0.2, 0.3])
    shutil.copytree(manager.checkpoint_dir / "e0", manager.checkpoint_dir / "my_copy")
    shutil.rmtree(manager.checkpoint_dir / "e0")
    assert manager.load_best(model)["name"] == "my_copy"
    for number in range(3, 9):
        manager.save(f"e{number}", model, metric=0.0)
    assert "my_copy" in kept(manager)


def test_other_programs_files_are_left_alone(manager):
    manager.checkpoint_dir.mkdir()
    (manager.checkpoint_dir / "notes").mkdir()
    (manager.checkpoint_dir / "notes" / "a.txt").write_text("mine")
    (manager.checkpoint_dir / "metrics.jsonl").write_text("{}\n")
    model = save_series(manager, [0.5] * 6)
    assert (manager.checkpoint_dir / "notes" / "a.txt").read_text() == "mine"
    assert (manager.checkpoint_dir / "metrics.jsonl").read_text() == "{}\n"
    with pytest.raises(CheckpointError, match="notes exists and is no checkpoint"):
        manager.save("notes", model)


def test_saving_a_name_again_replaces_it_and_makes_it_the_latest(manager):
    model, _ = make()
    manager.save("a", model, metric=0.1)
    manager.save("b", model, metric=0.2)
    with torch.no_grad():
        model.weight.add_(1)
    manager.save("a", model, metric=0.3)
    assert kept(manager) == ["b", "a"]
    assert manager.best().name == "b"
    other, _ = make(seed=1)
    assert manager.load_latest(other)["metric"] == 0.3
    assert is_equal(snapshot(other), snapshot(model))


# --- damage and failure -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "training_state.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_refused_by_name_and_passed_over_by_best_and_latest(manager, file, damage, caplog):
    model, optimizer = make()
    for number in (1, 2, 3):
        train(model, optimizer, 1)
        manager.save(f"e{number}", model, optimizer, metric=1 / number)
    path = manager.checkpoint_dir / "e3" / file
    if damage == "flip":
        flip_a_byte(path)
    elif damage == "cut":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.unlink()
    other, its_optimizer = make(seed=1)
    before = snapshot(other, its_optimizer)
    with pytest.raises(CheckpointError, match=r"e3.*load_latest\(\)"):
        manager.load("e3", other, its_optimizer)
    assert is_equal(snapshot(other, its_optimizer), before)
    for load in (manager.load_best, manager.load_latest):
        caplog.clear()
        info = load(other, its_optimizer)
        assert (info["name"], info["skipped"]) == ("e2", ["e3"])
        assert str(path.parent) in caplog.text
    manager.save("e4", model, optimizer, metric=0.1)  # goes on beside the damaged one
    assert manager.load_latest(other)["name"] == "e4"
    manager.save("e3", model, optimizer, metric=0.1)  # and may replace it
    assert manager.load("e3", other)["skipped"] == []


def test_without_a_good_one_the_folder_is_named(manager):
    model, _ = make()
    with pytest.raises(CheckpointError, match="holds none"):
        manager.load_latest(model)
    flip_a_byte(manager.save("a", model, metric=0.5) / "model.safetensors")
    for load in (manager.load_latest, manager.load_best):
        with pytest.raises(CheckpointError, match="all it holds are damaged: a"):
            load(model)


class FullDisk:
    """Stands in for one function of `os`; its n-th call finds the disk full."""

    def __init__(self, name, failing_call):
        self.original, self.calls, self.failing_call = getattr(os, name), 0, failing_call

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.failing_call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.original(*args, **kwargs)


@pytest.mark.parametrize(("function", "num_failures"), [("mkdir", 1), ("fsync", 9), ("replace", 2)])
def test_a_full_disk_at_any_call_loses_nothing(manager, monkeypatch, function, num_failures):
    old, new = make(), make(seed=1)
    for model, optimizer in (old, new):
        train(model, optimizer, 2)
    manager.save("a", *old, metric=0.5)
    for failing_call in range(1, num_failures + 2):
        manager.save("b", *old, metric=0.6)
        full_disk = FullDisk(function, failing_call)
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full_disk)
            if failing_call <= num_failures:
                with pytest.raises(
                    CheckpointError, match=r"No space left.*Earlier checkpoints are untouched. Make room"
                ):
                    manager.save("b", *new, metric=0.1)
            else:  # what is left to fail is the removal of the old one, which is no failure of the save
                manager.save("b", *new, metric=0.1)
        assert not [name for name in names_in(manager.checkpoint_dir) if name.startswith(".tmp")]
        loaded = make(seed=2)
        manager.load("a", *loaded)
        assert is_equal(snapshot(*loaded), snapshot(*old))
        manager.load("b", *loaded)
        is_published = failing_call > num_failures or (function, failing_call) == ("fsync", 9)
        assert is_equal(snapshot(*loaded), snapshot(*(new if is_published else old)))
    manager.save("c", *old, metric=0.7)
    assert names_in(manager.checkpoint_dir) == ["a", "b", "c"]


def test_a_failing_writer_of_tensors_is_a_clear_error(manager, monkeypatch):
    model, _ = make()
    manager.save("a", model)
    original = Path.mkdir

    def make_unwritable(path, *args, **kwargs):  # root may write everywhere: put a folder where the file should go
        original(path, *args, **kwargs)
        original(path / "model.safetensors")

    monkeypatch.setattr(Path, "mkdir", make_unwritable)
    with pytest.raises(CheckpointError, match="could not be saved"):
        manager.save("b", model)
    assert names_in(manager.checkpoint_dir) == ["a"]
