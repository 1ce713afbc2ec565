"""A folder is there whole or not at all: a process is killed before each call that changes the disk."""

import errno
import json
import os
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from systems.pixel_llm import whole_folder
from systems.pixel_llm.checkpoint_folder import list_checkpoints, read_manifest, verify_files, write_manifest
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.training.durable import clear_leftovers, durable_folder
from systems.pixel_llm.whole_folder import discard_folder

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"


def save(directory, name, content, *, sequence=1):
    with durable_folder(directory, name) as folder:
        (folder / "training_state.json").write_text("{}")
        (folder / "weights.bin").write_bytes(content)
        write_manifest(folder, name, sequence=sequence, epoch=0, metric=None, keep=False)
    return directory / name


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def finished_process_id():
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout)


def test_the_folder_appears_at_the_end_with_all_in_it(tmp_path):
    directory = tmp_path / "runs" / "checkpoints"
    with durable_folder(directory, "a") as folder:
        (folder / "weights.bin").write_bytes(b"weights")
        write_manifest(folder, "a", sequence=1, epoch=0, metric=None, keep=False)
        assert not (directory / "a").exists()
        assert list_checkpoints(directory) == []
    assert names_in(directory) == ["a"]
    assert names_in(directory / "a") == ["MANIFEST.json", "weights.bin"]


def test_every_file_and_folder_is_synced_before_the_rename(tmp_path, monkeypatch):
    calls = []
    sync, rename = os.fsync, os.replace

    def record_sync(descriptor):
        calls.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.split("-")[0])
        sync(descriptor)

    def record_rename(source, target):
        calls.append("rename")
        rename(source, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell what a descriptor is")
    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_rename)
    save(tmp_path, "a", b"weights")
    place = calls.index("rename")
    assert set(calls[: place - 1]) == {"weights.bin", "training_state.json", "MANIFEST.json"}
    assert calls[place - 1] == ".tmp"
    assert calls[place + 1] == tmp_path.name.split("-")[0]


def test_an_error_inside_leaves_everything_as_it_was(tmp_path):
    def save_and_interrupt():
        with durable_folder(tmp_path, "a") as folder:
            (folder / "weights.bin").write_bytes(b"new")
            raise KeyboardInterrupt

    save(tmp_path, "a", b"old")
    with pytest.raises(KeyboardInterrupt):
        save_and_interrupt()
    assert names_in(tmp_path) == ["a"]
    assert (tmp_path / "a" / "weights.bin").read_bytes() == b"old"


def test_a_file_cut_after_its_manifest_is_not_published(tmp_path):
    def save_and_cut():
        with durable_folder(tmp_path, "a") as folder:
            (folder / "weights.bin").write_bytes(b"new")
            write_manifest(folder, "a", sequence=2, epoch=0, metric=None, keep=False)
            os.truncate(folder / "weights.bin", 2)

    save(tmp_path, "a", b"old")
    with pytest.raises(CheckpointError, match="2 bytes"):
        save_and_cut()
    assert names_in(tmp_path) == ["a"]
    assert (tmp_path / "a" / "weights.bin").read_bytes() == b"old"


def test_a_file_of_tensors_that_no_reader_would_take_is_not_published(tmp_path):
    def save_nonsense():
        with durable_folder(tmp_path, "a") as folder:
            (folder / "model.safetensors").write_bytes(bytes(100))
            write_manifest(folder, "a", sequence=2, epoch=0, metric=None, keep=False)

    save(tmp_path, "a", b"old")
    with pytest.raises(CheckpointError, match="no sound file of tensors"):
        save_nonsense()
    assert (tmp_path / "a" / "weights.bin").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_not_a_checkpoint_is_never_replaced(tmp_path, kind):
    target = tmp_path / "elsewhere"
    if kind == "link":
        save(tmp_path, "elsewhere", b"precious")
        (tmp_path / "a").symlink_to(target)
    elif kind == "file":
        (tmp_path / "a").write_text("precious")
    else:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "thesis.txt").write_text("precious")
    before = names_in(tmp_path)
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        save(tmp_path, "a", b"new")
    assert names_in(tmp_path) == before


# Run apart from torch and pytest, so that a fork is safe: fork, die before the n-th call, look at what is left.
KILL_AT_EACH_CALL = """
import itertools, json, os, shutil, sys
from pathlib import Path
from tests.training.dying import die_before
from systems.pixel_llm.checkpoint_folder import scan_checkpoints, verify_files, write_manifest
from systems.pixel_llm.training.durable import clear_leftovers, durable_folder
from systems.pixel_llm.whole_folder import discard_folder

def save(directory, name, content, sequence):
    clear_leftovers(directory)
    with durable_folder(directory, name) as folder:
        (folder / "training_state.json").write_text("{}")
        (folder / "weights.bin").write_bytes(content)
        write_manifest(folder, name, sequence=sequence, epoch=0, metric=None, keep=False)

def contents(directory):
    scan = scan_checkpoints(directory)
    for record in scan.records:
        verify_files(record.path, deep=True)
    found = {record.name: (record.path / "weights.bin").read_text() for record in scan.records}
    return {"found": found, "damaged": scan.damaged}

directory, results = Path(sys.argv[1]), []
for number in itertools.count(1):
    shutil.rmtree(directory, ignore_errors=True)
    for sequence, name in enumerate("abc"):
        save(directory, name, b"old", sequence)
    child = os.fork()
    if child == 0:
        die_before(number)
        save(directory, "b", b"new", 4)       # in place of an older one
        save(directory, "d", b"new", 5)       # a new one
        discard_folder(directory / "a")       # pruning
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    after_kill = contents(directory)
    clear_leftovers(directory)
    results.append({"died": died, "after_kill": after_kill, "cleared": contents(directory),
                    "names": sorted(os.listdir(directory))})
    if not died:
        break
print(json.dumps(results))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_before_any_call_every_checkpoint_is_good_and_leftovers_go(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILL_AT_EACH_CALL, str(tmp_path / "checkpoints")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) > 30
    states = []
    for result in results:
        for seen in (result["after_kill"], result["cleared"]):
            assert seen["damaged"] == {}
            assert seen["found"]["c"] == "old"
            assert seen["found"]["b"] in ("old", "new")
        found = result["cleared"]["found"]
        assert found == result["after_kill"]["found"]
        assert result["names"] == sorted(found)  # nothing hidden is left
        states.append(("a" in found, found["b"], "d" in found))
    # One after the other each step takes hold, and never goes back; a is gone only when all else is there.
    assert list(dict.fromkeys(states)) == [
        (True, "old", False), (True, "new", False), (True, "new", True), (False, "new", True),
    ]  # fmt: skip
    assert [result["died"] for result in results] == [True] * (len(results) - 1) + [False]


def test_leftovers_of_dead_writers_go_and_those_of_living_ones_stay(tmp_path):
    dead, alive, other_host = finished_process_id(), os.getppid(), "00000000"
    own = whole_folder._hidden_name(".tmp-", "own")
    stale = [
        f".tmp-a-{HOST}-{dead}-0123abcd-0",
        f".trash-a-{HOST}-{dead}-0123abcd-1",
        f".tmp-a-{HOST}-{os.getpid()}-0123abcd-0",  # a run before this one had the same process id
        f".tmp-old-{other_host}-1-0123abcd-0",
    ]
    kept = [
        own,
        f".tmp-a-{HOST}-{alive}-0123abcd-0",
        f".tmp-a-{other_host}-1-0123abcd-0",
        ".tmp-of-another-program",
        "mine",
    ]
    for name in (*stale, *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    os.utime(tmp_path / stale[3], (0, 0))
    clear_leftovers(tmp_path)
    assert names_in(tmp_path) == sorted(kept)


def test_an_old_one_comes_back_where_the_new_one_is_missing_or_damaged(tmp_path, caplog):
    save(tmp_path, "a", b"old").rename(tmp_path / ".old-a")
    clear_leftovers(tmp_path)
    assert names_in(tmp_path) == ["a"]
    assert "restored" in caplog.text

    (tmp_path / "a").rename(tmp_path / ".old-a")
    (save(tmp_path, "a", b"new") / "weights.bin").write_bytes(b"bad")
    clear_leftovers(tmp_path)
    assert names_in(tmp_path) == ["a"]
    verify_files(tmp_path / "a", deep=True)
    assert (tmp_path / "a" / "weights.bin").read_bytes() == b"old"


def test_where_the_new_one_cannot_be_read_now_both_stay(tmp_path, monkeypatch, caplog):
    """A read that fails says nothing of the bytes: the new one may be the only one that was acknowledged."""
    save(tmp_path, "a", b"old").rename(tmp_path / ".old-a")
    new, read = save(tmp_path, "a", b"new", sequence=2), Path.open

    def fail(path, *args, **kwargs):
        if path == new / "weights.bin":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", fail)
    clear_leftovers(tmp_path)
    assert names_in(tmp_path) == [".old-a", "a"]
    assert "Input/output error" in caplog.text
    monkeypatch.undo()
    clear_leftovers(tmp_path)
    assert names_in(tmp_path) == ["a"]
    assert read_manifest(new)["sequence"] == 2


def test_what_cannot_be_cleared_is_no_reason_not_to_save(tmp_path, monkeypatch, caplog):
    save(tmp_path, "a", b"old").rename(tmp_path / ".old-a")

    def fail(path, target):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "replace", fail)
    clear_leftovers(tmp_path)
    assert "is left for later" in caplog.text
    assert [record.name for record in list_checkpoints(tmp_path)] == ["a"]


def test_an_old_one_goes_where_the_new_one_is_whole(tmp_path):
    save(tmp_path, "a", b"old").rename(tmp_path / ".old-a")
    save(tmp_path, "a", b"new", sequence=2)
    clear_leftovers(tmp_path)
    assert names_in(tmp_path) == ["a"]
    assert read_manifest(tmp_path / "a")["sequence"] == 2


def test_a_failed_removal_is_only_a_warning(tmp_path, caplog):
    discard_folder(tmp_path / "absent")
    assert "could not be removed" in caplog.text
