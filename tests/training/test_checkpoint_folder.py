"""Manifests, verification and choice, on folders written with no torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from systems.pixel_llm import checkpoint_folder
from systems.pixel_llm.checkpoint_folder import (
    CheckpointRecord,
    check_checkpoint_name,
    find_checkpoint,
    list_checkpoints,
    read_manifest,
    scan_checkpoints,
    verify_files,
    write_manifest,
)
from systems.pixel_llm.checkpoint_ranking import best_record, latest_record, rank_records
from systems.pixel_llm.errors import CheckpointError, ConfigError


def make_checkpoint(directory, name, *, sequence=1, metric=0.5, keep=False):
    folder = directory / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(60)))
    (folder / "training_state.json").write_text("{}")
    write_manifest(folder, name, sequence=sequence, epoch=sequence, metric=metric, keep=keep)
    return folder


def forge_manifest(folder, **changes):
    """A manifest whose digest is right and whose content is `changes`."""
    fields = read_manifest(folder) | changes
    (folder / "MANIFEST.json").write_bytes(checkpoint_folder._manifest_bytes(fields))


def record(name, sequence, metric):
    return CheckpointRecord(name=name, path=Path(name), epoch=0, metric=metric, sequence=sequence, keep=False)


def test_the_manifest_tells_what_was_written(tmp_path):
    folder = make_checkpoint(tmp_path, "epoch_5", sequence=3, metric=0.1234, keep=True)
    manifest = read_manifest(folder)
    assert {key: manifest[key] for key in ("version", "name", "sequence", "epoch", "metric", "keep")} == {
        "version": 2, "name": "epoch_5", "sequence": 3, "epoch": 3, "metric": 0.1234, "keep": True,
    }  # fmt: skip
    assert manifest["files"]["model.safetensors"]["size"] == 60
    assert set(manifest["files"]) == {"model.safetensors", "training_state.json"}
    verify_files(folder, deep=True)


def test_every_flipped_byte_and_every_truncation_is_noticed(tmp_path):
    folder = make_checkpoint(tmp_path, "a")
    for name in ("model.safetensors", "training_state.json", "MANIFEST.json"):
        content = (folder / name).read_bytes()
        damaged = [content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :] for i in range(len(content))]
        for each in (*damaged, *(content[:length] for length in range(0, len(content), 9)), content + b" "):
            (folder / name).write_bytes(each)
            with pytest.raises(CheckpointError):
                verify_files(folder, deep=True)
        (folder / name).write_bytes(content)
    verify_files(folder, deep=True)


def test_a_missing_file_or_a_link_is_noticed_by_the_shallow_look(tmp_path):
    folder = make_checkpoint(tmp_path, "a")
    moved = tmp_path / "elsewhere"
    (folder / "model.safetensors").rename(moved)
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*missing"):
        verify_files(folder, deep=False)
    (folder / "model.safetensors").symlink_to(moved)
    with pytest.raises(CheckpointError, match="not a plain file"):
        verify_files(folder, deep=False)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "a\\b", ".hidden", "C:x", ""])
def test_a_manifest_that_leaves_its_folder_is_refused(tmp_path, name):
    folder = make_checkpoint(tmp_path, "a")
    (tmp_path / "secret").write_bytes(b"x")
    forge_manifest(folder, files={name: {"size": 1, "sha256": "0" * 64}})
    with pytest.raises(CheckpointError, match="outside its folder"):
        verify_files(folder, deep=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": "1"},
        {"metric": float("nan")},
        {"keep": None},
        {"files": []},
        {"files": {"a": {"size": "1"}}},
        {"version": 0},
    ],
)
def test_fields_of_the_wrong_kind_are_refused(tmp_path, changes):
    folder = make_checkpoint(tmp_path, "a")
    forge_manifest(folder, **changes)
    with pytest.raises(CheckpointError):
        read_manifest(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * 2_000_000,
        json.dumps({"format": "other"}).encode(),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, content):
    folder = make_checkpoint(tmp_path, "a")
    (folder / "MANIFEST.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"MANIFEST\.json"):
        read_manifest(folder)


def test_a_newer_version_says_so(tmp_path):
    folder = make_checkpoint(tmp_path, "a")
    forge_manifest(folder, version=3)
    with pytest.raises(CheckpointError, match=r"version 3.*Update"):
        read_manifest(folder)


def test_listing_is_by_sequence_and_warns_of_damaged_ones(tmp_path, caplog):
    make_checkpoint(tmp_path, "b", sequence=1)
    make_checkpoint(tmp_path, "a", sequence=2)
    (make_checkpoint(tmp_path, "c", sequence=9) / "model.safetensors").write_bytes(b"short")
    (make_checkpoint(tmp_path, "d", sequence=4) / "MANIFEST.json").unlink()
    assert [each.name for each in list_checkpoints(tmp_path)] == ["b", "a"]
    assert "5 bytes and its manifest says 60" in caplog.text
    assert f"{tmp_path / 'd'} is no whole checkpoint" in caplog.text
    assert scan_checkpoints(tmp_path).last_sequence == 9
    assert list_checkpoints(tmp_path / "absent") == []


def test_what_is_not_a_checkpoint_is_passed_over_in_silence(tmp_path, caplog):
    make_checkpoint(tmp_path, "a")
    (tmp_path / "notes").mkdir()
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "best").symlink_to(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / ".tmp-a-1")
    assert [each.name for each in list_checkpoints(tmp_path)] == ["a"]
    assert not caplog.records


def test_one_that_was_being_replaced_is_found_under_its_name(tmp_path):
    make_checkpoint(tmp_path, "a").rename(tmp_path / ".old-a")
    assert [(each.name, each.path) for each in list_checkpoints(tmp_path)] == [("a", tmp_path / ".old-a")]
    assert find_checkpoint(tmp_path, "a") == tmp_path / ".old-a"
    make_checkpoint(tmp_path, "a", sequence=2)
    assert [(each.name, each.sequence) for each in list_checkpoints(tmp_path)] == [("a", 2)]
    assert find_checkpoint(tmp_path, "a") == tmp_path / "a"


def test_a_copy_made_by_hand_is_kept(tmp_path):
    shutil.copytree(make_checkpoint(tmp_path, "a"), tmp_path / "mine")
    assert {each.name: each.keep for each in list_checkpoints(tmp_path)} == {"a": False, "mine": True}


def test_best_and_latest():
    records = [
        record("a", 1, 0.5),
        record("b", 2, 0.3),
        record("c", 3, float("nan")),
        record("d", 4, 0.3),
        record("e", 5, None),
    ]
    assert best_record(records, "min").name == "b"
    assert best_record(records, "max").name == "a"
    assert [each.name for each in rank_records(records, "max")] == ["a", "b", "d"]
    assert latest_record(records).name == "e"
    assert best_record(records[4:], "min") is None
    assert latest_record([]) is None
    with pytest.raises(ConfigError, match="metric_mode"):
        best_record(records, "lowest")


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "../a", "a b", "a\n", "é", "a" * 201, None])
def test_names_that_are_no_plain_folder_names_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot name a checkpoint"):
        check_checkpoint_name(name)


def test_names_in_use_are_allowed():
    for name in ("epoch_5", "step-1.5", "a" * 200, "5"):
        check_checkpoint_name(name)


def test_a_missing_checkpoint_names_the_nearest(tmp_path):
    make_checkpoint(tmp_path, "epoch_5")
    with pytest.raises(CheckpointError, match="'epoch_5'"):
        find_checkpoint(tmp_path, "epoch_05")
    with pytest.raises(CheckpointError, match="no checkpoint at all"):
        find_checkpoint(tmp_path / "absent", "epoch_5")


def test_a_manifest_covers_plain_files_only(tmp_path):
    (tmp_path / "inner").mkdir()
    with pytest.raises(CheckpointError, match="plain files only"):
        write_manifest(tmp_path, "a", sequence=1, epoch=0, metric=None, keep=False)


def test_no_torch_is_loaded():
    modules = "systems.pixel_llm.checkpoint_folder, systems.pixel_llm.training.durable"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
