"""Files copied into memory and written later: to the byte what they were, whatever has changed since."""

import os

import pytest

from systems.pixel_llm.block_digests import BLOCK_BYTES
from systems.pixel_llm.folder_snapshot import FolderSnapshot
from systems.pixel_llm.folder_writer import folder_writer


def test_what_is_written_is_what_was_when_it_was_taken(tmp_path):
    content = bytearray(os.urandom(3 * BLOCK_BYTES + 5))
    before = bytes(content)
    snapshot = FolderSnapshot()
    with snapshot.taking():
        with snapshot.file("a") as file:
            file.append(memoryview(content)[:1000])
            file.append(memoryview(content)[1000:])
        snapshot.write("b", b"small")
        snapshot.write("empty", b"")
    content[:] = bytes(len(content))
    assert snapshot.num_bytes == len(before) + 5
    for _ in range(2):
        with folder_writer(tmp_path) as writer:
            snapshot.write_to(writer)
        assert (tmp_path / "a").read_bytes() == before
        assert (tmp_path / "b").read_bytes() == b"small"
        assert (tmp_path / "empty").read_bytes() == b""
    assert writer.digests["a"].size == len(before)


def test_memory_is_kept_and_files_are_not(tmp_path):
    snapshot = FolderSnapshot()
    with snapshot.taking():
        snapshot.write("a", bytes(1000))
        snapshot.write("only once", b"x")
    kept = snapshot._buffers["a"]
    with snapshot.taking():
        snapshot.write("a", b"shorter")
    assert snapshot._buffers["a"] is kept
    with folder_writer(tmp_path) as writer:
        snapshot.write_to(writer)
    assert writer.digests.keys() == {"a"}
    assert (tmp_path / "a").read_bytes() == b"shorter"


def test_a_file_that_fails_half_way_is_none_of_the_snapshot():
    snapshot = FolderSnapshot()

    def stop_half_way():
        with snapshot.taking(), snapshot.file("a") as file:
            file.append(memoryview(b"half"))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_half_way()
    assert snapshot.num_bytes == 0
