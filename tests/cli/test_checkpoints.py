"""`pixel-llm checkpoints`: the table, what is damaged, what pruning removes; all without torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from systems.pixel_llm.checkpoint_folder import write_manifest
from systems.pixel_llm.checkpoint_lineage import Lineage

RUN = Lineage(run="aaaa")


def write(folder, name, sequence, metric=None, *, keep=False, lineage=RUN, optimizer=True):
    path = folder / name
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"w" * 200)
    if optimizer:
        (path / "optimizer.safetensors").write_bytes(b"o" * 400_000)
    (path / "training_state.json").write_text("{}")
    write_manifest(
        path, name, sequence=sequence, epoch=sequence, step=10 * sequence, metric=metric, keep=keep,
        metric_name=None if metric is None else "val_loss", lineage=lineage,
    )  # fmt: skip


@pytest.fixture
def run(in_tmp_path):
    folder = Path("run/checkpoints")
    for number, metric in enumerate([0.5, 0.75, 0.6, 0.9, None, 0.8], start=1):
        write(folder, f"epoch_{number}", number, metric, optimizer=number != 1)
    write(folder, "theirs", 1, 0.95, lineage=Lineage(run="bbbb"))
    return folder.parent


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_table(pixel_llm, run):
    ended = pixel_llm("checkpoints", run)
    assert ended.status == 0
    assert ended.lines == [
        "name     epoch  step  metric             size  holds               checked  kept as",
        "epoch_1      1    10  0.5000 val_loss   202 B  weights             sizes    best",
        "theirs       1    10  0.9500 val_loss  0.4 MB  weights, optimizer  sizes    of another run",
        "epoch_2      2    20  0.7500 val_loss  0.4 MB  weights, optimizer  sizes    among the best",
        "epoch_3      3    30  0.6000 val_loss  0.4 MB  weights, optimizer  sizes    among the best",
        "epoch_4      4    40  0.9000 val_loss  0.4 MB  weights, optimizer  sizes    (not kept by the next save)",
        "epoch_5      5    50  -                0.4 MB  weights, optimizer  sizes    among the newest",
        "epoch_6      6    60  0.8000 val_loss  0.4 MB  weights, optimizer  sizes    latest",
        "7 checkpoints in run/checkpoints, 2.4 MB",
    ]
    assert "Only sizes were compared with what was saved; --verify reads every byte." in ended.err
    assert pixel_llm("checkpoints", run / "checkpoints").out == ended.out


def test_one_checkpoint_is_listed_alone(pixel_llm, run):
    ended = pixel_llm("checkpoints", run / "checkpoints" / "epoch_3", "--verify")
    assert ended.status == 0
    assert [line.split()[0] for line in ended.lines] == ["name", "epoch_3", "1"]
    ended = pixel_llm("checkpoints", run / "checkpoints" / "epoch_3", "--prune")
    assert ended.status == 2
    assert "--prune is for all checkpoints of a run" in ended.err


def test_verify_reads_every_byte(pixel_llm, run):
    assert pixel_llm("checkpoints", run, "--verify").status == 0
    (run / "checkpoints/epoch_1/model.safetensors").write_bytes(b"w" * 199 + b"x")
    ended = pixel_llm("checkpoints", run)
    assert (ended.status, "DAMAGED" in ended.out) == (0, False), "the size is right"
    (run / "checkpoints/epoch_3/model.safetensors").write_bytes(b"w" * 100)
    assert pixel_llm("checkpoints", run).status == 0
    ended = pixel_llm("checkpoints", run, "--verify")
    assert ended.status == 1
    damaged = [line.split()[0] for line in ended.lines if "DAMAGED" in line]
    assert sorted(damaged) == ["epoch_1", "epoch_3"]
    assert "epoch_2" in next(line for line in ended.lines if line.endswith("best"))
    assert ended.lines[-1] == "5 checkpoints in run/checkpoints, 2.0 MB, and 2 damaged"
    assert "epoch_1/model.safetensors: damaged, its content is not what was saved" in ended.err
    assert "epoch_3/model.safetensors: damaged, it has 100 bytes" in ended.err


def test_prune_removes_what_the_next_save_would(pixel_llm, run):
    before = names(run)
    ended = pixel_llm("checkpoints", run, "--prune", "--dry-run")
    assert (ended.status, ended.lines[-1], names(run)) == (0, "would be removed: epoch_4", before)
    ended = pixel_llm("checkpoints", run, "--prune")
    assert (ended.status, ended.lines[-1]) == (0, "removed: epoch_4")
    assert names(run) == ["epoch_1", "epoch_2", "epoch_3", "epoch_5", "epoch_6", "theirs"]
    assert "epoch_4 " not in ended.out.splitlines()[3]
    assert pixel_llm("checkpoints", run, "--prune").lines[-1] == "nothing to remove"
    assert pixel_llm("checkpoints", run, "--prune", "--max-checkpoints", 1).lines[-1] == "removed: epoch_2, epoch_3"


def test_prune_keeps_as_many_as_the_run_does_and_what_it_went_back_to(pixel_llm, run):
    (run / "options.toml").write_text("max_checkpoints = 1\n")
    write(run / "checkpoints", "epoch_7", 7, lineage=Lineage(run="aaaa", gone_back_to=(4,)))
    ended = pixel_llm("checkpoints", run, "--prune")
    assert ended.lines[-1] == "removed: epoch_2, epoch_3, epoch_5"
    assert names(run) == ["epoch_1", "epoch_4", "epoch_6", "epoch_7", "theirs"]


def test_prune_never_removes_what_is_damaged_nor_lets_it_stand_for_a_good_one(pixel_llm, run):
    (run / "checkpoints/epoch_6/model.safetensors").write_bytes(b"w" * 199 + b"x")
    ended = pixel_llm("checkpoints", run, "--prune", "--verify")
    assert ended.status == 1
    assert ended.lines[-1] == "nothing to remove", "the newest two that are good are epoch_4 and epoch_5"
    assert len(names(run)) == 7


def test_json_is_for_scripts(pixel_llm, run):
    (run / "checkpoints/epoch_3/model.safetensors").unlink()
    ended = pixel_llm("checkpoints", run, "--json", "--prune", "--verify")
    assert ended.status == 1
    found = json.loads(ended.out)
    assert found["removed"] == ["epoch_4"]
    assert list(found["damaged"]) == ["epoch_3"]
    assert found["is_every_byte_read"] is True
    assert found["checkpoints"][0] == {
        "name": "epoch_1", "path": "run/checkpoints/epoch_1", "epoch": 1, "step": 10, "metric": 0.5,
        "metric_name": "val_loss", "num_bytes": 202, "has_optimizer": False, "run": "aaaa", "sequence": 1,
        "is_best": True, "is_latest": False, "kept_as": ["among the best"],
    }  # fmt: skip


def test_earlier_runs_are_named(pixel_llm, run):
    previous = run / "checkpoints" / "previous" / "bbbb"
    previous.parent.mkdir()
    (run / "checkpoints" / "theirs").rename(previous.parent / "x")
    previous.mkdir()
    (previous.parent / "x").rename(previous / "theirs")
    assert "An earlier run: pixel-llm checkpoints run/checkpoints/previous/bbbb" in pixel_llm("checkpoints", run).err
    assert "theirs" in pixel_llm("checkpoints", previous).out
    for path in (run / "checkpoints").glob("epoch*"):
        shutil.rmtree(path)
    assert pixel_llm("checkpoints", run).lines == ["0 checkpoints in run/checkpoints, 0 B"]


def test_what_is_no_run_is_refused(pixel_llm, in_tmp_path):
    Path("empty").mkdir()
    for words, status, told in [
        (["empty"], 1, "empty holds no checkpoint. Name a run folder"),
        (["absent"], 1, "absent: there is no such folder"),
        (["empty", "--dry-run"], 2, "--dry-run says what --prune would remove"),
        (["empty", "--max-checkpoints", "0"], 2, "--max-checkpoints must be"),
    ]:
        ended = pixel_llm("checkpoints", *words)
        assert ended.status == status
        assert told in ended.err


def test_no_torch_is_loaded(run, repository_root):
    script = (
        "import sys; from systems.pixel_llm.cli.main import main; status = main(['checkpoints', sys.argv[1]]); "
        "sys.exit(100 if 'torch' in sys.modules else status)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(run.resolve())], cwd=repository_root, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_a_trained_run_is_whole(pixel_llm, trained_run):
    ended = pixel_llm("checkpoints", trained_run, "--verify")
    assert (ended.status, "latest" in ended.out, "best" in ended.out) == (0, True, True)
