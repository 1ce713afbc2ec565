"""Which checkpoints stay: those of other runs, those resumed from, in the next process too; older runs move aside."""

import shutil
import time

import pytest
from torch import nn

from systems.pixel_llm.checkpoint_folder import read_manifest
from systems.pixel_llm.checkpoint_lineage import NO_LINEAGE, Lineage
from systems.pixel_llm.checkpoint_retention import (
    BEST,
    COPY,
    KEEP,
    NEWEST,
    OTHER_RUN,
    RECENT,
    RESUMED_FROM,
    reasons_to_keep,
)  # fmt: skip
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.training.checkpoint import CheckpointManager
from systems.pixel_llm.training.previous_runs import previous_runs, set_aside


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def save_series(manager, numbers, *, metric=None, **settings):
    model = nn.Linear(2, 1)
    for number in numbers:
        manager.save(f"e{number}", model, epoch=number, metric=metric, **settings)
    return model


def kept(manager):
    return [record.name for record in manager.list()]


def resumed(folder, name, **settings):
    """A new process that goes on from this checkpoint."""
    manager = CheckpointManager(folder, **settings)
    manager.load(name, nn.Linear(2, 1))
    manager.continue_run(name)
    return manager


# --- runs -------------------------------------------------------------------------------------------------------------


def test_the_checkpoints_of_a_run_bear_its_name_and_a_resume_takes_it_over(folder):
    save_series(CheckpointManager(folder), [1, 2])
    first = read_manifest(folder / "e1")["run"]
    assert read_manifest(folder / "e2")["run"] == first
    save_series(resumed(folder, "e2"), [3])
    assert read_manifest(folder / "e3")["run"] == first
    loaded = CheckpointManager(folder)
    save_series(loaded, [4], metric=0.5)
    assert read_manifest(folder / "e4")["run"] != first
    other = CheckpointManager(folder)
    other.load_latest(nn.Linear(2, 1))  # by hand, without a Trainer
    save_series(other, [5])
    assert read_manifest(folder / "e5")["run"] == read_manifest(folder / "e4")["run"]


def test_another_run_in_the_same_place_is_never_pruned(folder):
    save_series(CheckpointManager(folder, max_checkpoints=1), [1, 2], metric=0.9)
    manager = CheckpointManager(folder, max_checkpoints=1)
    save_series(manager, range(3, 9))
    assert kept(manager) == ["e1", "e2", "e7", "e8"]
    assert [record.sequence for record in manager.list()] == [1, 2, 7, 8]


def test_a_checkpoint_from_before_runs_had_names_is_gone_on_from(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Lineage, "new", lambda: NO_LINEAGE)
        save_series(CheckpointManager(folder, max_checkpoints=1), [1, 2])
    manager = resumed(folder, "e2", max_checkpoints=1)
    save_series(manager, [3, 4, 5])
    assert kept(manager) == ["e2", "e4", "e5"]
    assert read_manifest(folder / "e5")["run"] is None


def test_numbers_of_a_run_are_not_used_again(folder):
    manager = CheckpointManager(folder)
    save_series(manager, [1, 2, 3])
    shutil.rmtree(folder / "e3")
    save_series(manager, [4])
    assert [record.sequence for record in manager.list()] == [1, 2, 4]


def test_a_clock_that_jumps_changes_nothing(folder, monkeypatch):
    manager = CheckpointManager(folder, max_checkpoints=1)
    for number, now in enumerate([2e9, 1e9, 3e9, 0.0, 1.5e9]):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        save_series(manager, [number])
    assert kept(manager) == ["e3", "e4"]
    assert manager.latest().name == "e4"


# --- resumed from -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_gone_back_to_stays_through_all_restarts(folder):
    save_series(CheckpointManager(folder, max_checkpoints=5), [1, 2, 3, 4])
    save_series(resumed(folder, "e2", max_checkpoints=1), [5, 6, 7])
    assert read_manifest(folder / "e7")["gone_back_to"] == [2]
    save_series(resumed(folder, "e7", max_checkpoints=1), [8, 9, 10])
    manager = resumed(folder, "e10", max_checkpoints=1)
    save_series(manager, [11, 12, 13])
    assert kept(manager) == ["e2", "e10", "e12", "e13"], "of restarts from the newest, the last one is kept"
    latest = read_manifest(folder / "e13")
    assert (latest["resumed_from"], latest["gone_back_to"]) == (10, [2])


def test_a_new_process_keeps_what_the_one_before_it_resumed_from(folder):
    save_series(CheckpointManager(folder), [1])
    save_series(resumed(folder, "e1", max_checkpoints=1), [2, 3, 4])
    other = CheckpointManager(folder, max_checkpoints=1)
    other.load_latest(nn.Linear(2, 1))
    save_series(other, [5, 6, 7])
    assert kept(other) == ["e1", "e6", "e7"]


# --- why --------------------------------------------------------------------------------------------------------------


def test_the_reasons_are_told(folder):
    save_series(CheckpointManager(folder), [0])
    manager = CheckpointManager(folder, max_checkpoints=2)
    save_series(manager, [1], metric=0.1)
    save_series(manager, [2], metric=0.9, keep=True)
    save_series(manager, [3])
    shutil.copytree(folder / "e3", folder / "mine")
    save_series(manager, [4, 5])
    records = manager.list()
    reasons = reasons_to_keep(records, records[-1].lineage, max_checkpoints=2, protected=["e1"])
    assert reasons == {
        "e0": (OTHER_RUN,), "e1": (BEST, RESUMED_FROM), "e2": (BEST, KEEP), "mine": (COPY,),
        "e4": (NEWEST,), "e5": (NEWEST,),
    }  # fmt: skip
    manager.max_checkpoints = 5
    save_series(manager, [6])
    assert reasons_to_keep(manager.list(), records[-1].lineage, max_checkpoints=5)["e4"] == (RECENT,)


def test_copies_by_hand_take_nobody_s_place(folder):
    manager = CheckpointManager(folder, max_checkpoints=2)
    save_series(manager, [1], metric=0.1)
    save_series(manager, [2], metric=0.2)
    for name in ("copy1", "copy2", "copy3"):
        shutil.copytree(folder / "e1", folder / name)
    save_series(manager, [3, 4, 5], metric=0.9)
    shutil.copytree(folder / "e5", folder / "copy4")
    save_series(manager, [6], metric=0.9)
    assert set(kept(manager)) == {"e1", "e2", "copy1", "copy2", "copy3", "copy4", "e5", "e6"}


def test_a_checkpoint_that_cannot_be_removed_is_warned_of(folder, monkeypatch, caplog):
    manager = CheckpointManager(folder, max_checkpoints=1)
    save_series(manager, [1, 2])

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        save_series(manager, [3])
    assert "e1 could not be removed" in caplog.text
    assert kept(manager) == ["e2", "e3"]
    save_series(manager, [4])
    assert sorted(path.name for path in folder.iterdir()) == ["e3", "e4"], "the next save has removed what was left"


@pytest.mark.parametrize(
    "fields", [{"run": "../x"}, {"run": 3}, {"resumed_from": "e1"}, {"gone_back_to": 2}, {"gone_back_to": ["e1"]}]
)
def test_a_manifest_with_an_impossible_past_is_refused(folder, monkeypatch, fields):
    honest = Lineage.to_manifest
    monkeypatch.setattr(Lineage, "to_manifest", lambda lineage: honest(lineage) | fields)
    with pytest.raises(CheckpointError, match="fields that no manifest has"):
        CheckpointManager(folder).save("e1", nn.Linear(2, 1))


# --- older runs -------------------------------------------------------------------------------------------------------


def test_older_runs_move_to_folders_of_their_names(folder, caplog):
    first = CheckpointManager(folder)
    save_series(first, [1, 2], metric=0.5)
    save_series(CheckpointManager(folder), [3])
    (folder / "e2" / "MANIFEST.json").write_text("damaged")
    (folder / "metrics.jsonl").write_text("{}\n")
    runs = [read_manifest(folder / name)["run"] for name in ("e1", "e3")]
    manager = CheckpointManager(folder)
    manager.begin_run()
    save_series(manager, [1])
    assert sorted(path.name for path in folder.iterdir()) == ["e1", "metrics.jsonl", "previous"]
    assert set(previous_runs(folder)) == {folder / "previous" / name for name in (*runs, "unnamed")}
    assert (folder / "previous" / "unnamed" / "e2" / "MANIFEST.json").read_text() == "damaged"
    assert str(folder / "previous" / runs[0]) in caplog.text
    assert kept(manager) == ["e1"]
    old = CheckpointManager(folder / "previous" / runs[0])
    assert old.load_best(nn.Linear(2, 1))["name"] == "e1"


def test_names_that_are_taken_get_a_number(folder):
    for _ in range(2):
        (folder / "previous" / "unnamed" / "e1").mkdir(parents=True, exist_ok=True)
        (folder / "e1").mkdir(exist_ok=True)
        (folder / "e1" / "MANIFEST.json").write_text("damaged")
        set_aside(folder)
    assert sorted(path.name for path in (folder / "previous").iterdir()) == ["unnamed", "unnamed-2", "unnamed-3"]


def test_a_checkpoint_may_be_named_previous(folder):
    save_series(CheckpointManager(folder), [1])
    CheckpointManager(folder).save("previous", nn.Linear(2, 1))
    set_aside(folder)
    assert {path.name for path in folder.iterdir()} == {"previous-2"}
    assert sum(len(list(path.iterdir())) for path in previous_runs(folder)) == 2


def test_where_they_cannot_be_moved_nothing_is_saved(folder, tmp_path):
    manager = CheckpointManager(folder)
    model = save_series(manager, [1])
    (folder / "previous").write_text("a file")
    other = CheckpointManager(folder)
    other.begin_run()  # passes by the file
    (folder / "previous-2").rename(tmp_path / "away")
    save_series(manager, [1])
    (folder / "previous-2").mkdir()
    (folder / "previous-2" / read_manifest(folder / "e1")["run"]).write_text("a file")
    with pytest.raises(CheckpointError, match="could not be moved aside"):
        other.begin_run()
    assert manager.load("e1", model)["name"] == "e1"


def test_a_model_s_step_is_told(folder):
    CheckpointManager(folder).save("a", nn.Linear(2, 1), step=7)
    (record,) = CheckpointManager(folder).list()
    assert (record.step, record.has_optimizer) == (7, False)
    assert record.num_bytes == sum(path.stat().st_size for path in (folder / "a").glob("[!M]*"))
