"""save_optimizer="latest": the best keep weights alone, at no moment is there a checkpoint that cannot be loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from systems.pixel_llm.checkpoint_folder import OPTIMIZER_FILE, read_manifest, verify_files
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.training.checkpoint import CheckpointManager


def make(seed=0, **settings):
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    return model, torch.optim.AdamW(model.parameters(), **settings)


def take_step(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


def save_series(manager, metrics, **settings):
    """One checkpoint after each step; the weights of each."""
    model, optimizer = make(**settings)
    weights = {}
    for number, metric in enumerate(metrics):
        take_step(model, optimizer)
        manager.save(f"e{number}", model, optimizer, epoch=number, metric=metric, training_state={"number": number})
        weights[f"e{number}"] = model.weight.detach().clone()
    return weights


def with_optimizer(manager):
    return [record.name for record in manager.list() if record.has_optimizer]


@pytest.fixture
def manager(tmp_path):
    return CheckpointManager(tmp_path / "checkpoints", save_optimizer="latest")


def test_the_newest_two_have_it_and_the_best_are_whole_without(manager):
    weights = save_series(manager, [0.1, 0.2, 0.3, 0.8, 0.9])
    assert [record.name for record in manager.list()] == ["e0", "e1", "e2", "e3", "e4"]
    assert with_optimizer(manager) == ["e3", "e4"]
    for record in manager.list():
        verify_files(record.path, deep=True)
        model, _ = make(seed=1)
        info = manager.load(record.name, model)
        assert torch.equal(model.weight, weights[record.name])
        assert (info["epoch"], info["metric"], info["training_state"]["number"]) == (
            record.epoch, record.metric, record.epoch,
        )  # fmt: skip
        assert (OPTIMIZER_FILE in read_manifest(record.path)["files"]) == (record.path / OPTIMIZER_FILE).exists()
    assert manager.best().name == "e0"
    assert sorted(path.name for path in manager.checkpoint_dir.iterdir()) == ["e0", "e1", "e2", "e3", "e4"]


def test_all_is_the_default_and_other_words_are_refused(tmp_path):
    manager = CheckpointManager(tmp_path)
    save_series(manager, [0.1, 0.2, 0.3])
    assert with_optimizer(manager) == ["e0", "e1", "e2"]
    with pytest.raises(ConfigError, match="save_optimizer must be 'all' or 'latest', not 'best'"):
        CheckpointManager(tmp_path, save_optimizer="best")


def test_those_kept_copied_or_resumed_from_keep_it(manager):
    model, optimizer = make()
    manager.save("mine", model, optimizer, metric=0.5, keep=True)
    manager.save("start", model, optimizer, metric=0.4)
    manager.save("other", model, optimizer, metric=0.3)
    manager.continue_run("start")
    for number in range(4):
        manager.save(f"e{number}", model, optimizer, metric=0.9)
    assert with_optimizer(manager) == ["mine", "start", "e2", "e3"]
    assert not (manager.checkpoint_dir / "other" / OPTIMIZER_FILE).exists()


def test_a_resume_from_weights_alone_begins_with_fresh_moments_and_the_learning_rate_and_says_so(manager, caplog):
    model, optimizer = make(lr=1e-3)
    for number in range(4):
        take_step(model, optimizer)
        optimizer.param_groups[0]["lr"] /= 2
        manager.save(f"e{number}", model, optimizer, metric=float(number))
    other, its_optimizer = make(seed=1, lr=1.0)
    take_step(other, its_optimizer)
    manager.load("e0", other, its_optimizer)
    assert "e0 has weights alone (save_optimizer='latest'): the optimizer begins afresh" in caplog.text
    assert its_optimizer.param_groups[0]["lr"] == 5e-4
    assert its_optimizer.state_dict()["state"] == {}
    take_step(other, its_optimizer)
    caplog.clear()
    manager.load("e3", other, its_optimizer)
    assert caplog.text == ""
    assert len(its_optimizer.state_dict()["state"]) == 2


def test_it_stays_where_a_learning_rate_is_a_tensor_in_it(manager):
    save_series(manager, [0.1, 0.2, 0.3, 0.4], lr=torch.tensor(1e-3))
    assert with_optimizer(manager) == ["e0", "e1", "e2", "e3"]


@pytest.mark.parametrize("file", ["model.safetensors", "training_state.json"])
def test_a_damaged_file_does_not_become_a_good_one(manager, file, caplog):
    save_series(manager, [0.1, 0.2])
    path = manager.checkpoint_dir / "e0" / file
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    model, optimizer = make()
    for number in (2, 3):
        manager.save(f"e{number}", model, optimizer, metric=0.9)
    with pytest.raises(CheckpointError, match=f"e0/{file}"):
        verify_files(path.parent, deep=True)
    assert ("stays in" in caplog.text) == (file == "training_state.json")


def test_a_full_disk_leaves_it_as_it_is_and_ends_no_run(manager, monkeypatch, caplog):
    save_series(manager, [0.1, 0.2])

    def fail(*_):
        raise OSError(28, "No space left on device")

    model, optimizer = make()
    with monkeypatch.context() as patch:
        patch.setattr("systems.pixel_llm.training.optimizer_states._link", fail)
        manager.save("e2", model, optimizer, metric=0.9)
    assert "e0: [Errno 28] No space left" in caplog.text
    assert with_optimizer(manager) == ["e0", "e1", "e2"]
    manager.save("e3", model, optimizer, metric=0.9)
    assert with_optimizer(manager) == ["e2", "e3"]


def test_a_file_system_without_links_gets_copies(manager, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    weights = save_series(manager, [0.1, 0.2, 0.3, 0.4])
    assert with_optimizer(manager) == ["e2", "e3"]
    model, _ = make(seed=1)
    manager.load("e0", model)
    assert torch.equal(model.weight, weights["e0"])


# Apart from torch and pytest, so that a fork is safe: fork, die before the n-th call, look at what is left.
KILL_AT_EACH_CALL = """
import itertools, json, os, shutil, sys
from pathlib import Path
from tests.training.dying import die_before
from systems.pixel_llm.checkpoint_folder import scan_checkpoints, verify_files
from systems.pixel_llm.checkpoint_retention import BEST
from systems.pixel_llm.training.durable import clear_leftovers
from systems.pixel_llm.training.optimizer_states import drop_optimizer_states

def look(directory):
    scan = scan_checkpoints(directory)
    for record in scan.records:
        verify_files(record.path, deep=True)
    return {record.name: record.has_optimizer for record in scan.records}, scan.damaged

source, directory, results = Path(sys.argv[1]), Path(sys.argv[2]), []
for number in itertools.count(1):
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(source, directory)
    child = os.fork()
    if child == 0:
        records = scan_checkpoints(directory).records
        die_before(number)
        drop_optimizer_states(records, {record.name: (BEST,) for record in records})
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    killed = look(directory)
    clear_leftovers(directory)
    results.append([died, killed, look(directory), sorted(os.listdir(directory))])
    if not died:
        break
print(json.dumps(results))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_before_any_call_all_weights_are_there_and_whole(tmp_path):
    save_series(CheckpointManager(tmp_path / "source"), [0.1, 0.2])
    done = subprocess.run(
        [sys.executable, "-c", KILL_AT_EACH_CALL, str(tmp_path / "source"), str(tmp_path / "checkpoints")],
        cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) > 30
    for _, killed, cleared, names in results:
        assert killed == cleared
        assert (killed[1], names) == ({}, ["e0", "e1"])
    states = [tuple(killed[0].values()) for _, killed, _, _ in results]
    assert list(dict.fromkeys(states)) == [(True, True), (False, True), (False, False)]
    assert [died for died, *_ in results] == [True] * (len(results) - 1) + [False]
