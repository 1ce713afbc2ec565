"""Files written block by block: what other programs read from them, their digests, and failures on the way."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from systems.pixel_llm.block_digests import BLOCK_BYTES, block_threads, digest_blocks, in_order, read_block
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.folder_writer import folder_writer
from systems.pixel_llm.tensor_bytes import DTYPE_NAMES, sources_of
from systems.pixel_llm.tensor_file import TensorSource, write_tensors


def blocks_of(content):
    return [
        hashlib.sha256(content[start : start + BLOCK_BYTES]).hexdigest()
        for start in range(0, len(content), BLOCK_BYTES)
    ]


def write(folder, tensors, name="a.safetensors", metadata=None):
    with folder_writer(folder) as writer, writer.file(name) as file:
        write_tensors(file, sources_of(tensors), metadata=metadata or {})
    return writer.digests[name]


SIZES = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_what_was_given_in_any_pieces(tmp_path, size):
    content = os.urandom(size)
    for piece_size in (size or 1, 1_000_003):
        with folder_writer(tmp_path) as writer, writer.file("a") as file:
            for start in range(0, size, piece_size):
                file.append(memoryview(content)[start : start + piece_size])
        assert (tmp_path / "a").read_bytes() == content
        assert writer.digests["a"].size == size
        assert list(writer.digests["a"].sha256) == blocks_of(content)
        with block_threads() as pool:
            assert list(digest_blocks(tmp_path / "a", pool)) == blocks_of(content)


def test_a_block_is_read_with_its_digest(tmp_path):
    content = os.urandom(BLOCK_BYTES + 10)
    (tmp_path / "a").write_bytes(content)
    buffer = bytearray(10)
    assert read_block(tmp_path / "a", BLOCK_BYTES, memoryview(buffer)) == hashlib.sha256(content[-10:]).hexdigest()
    assert buffer == content[-10:]
    longer = memoryview(bytearray(12))
    assert read_block(tmp_path / "a", BLOCK_BYTES, longer) == hashlib.sha256(content[-10:]).hexdigest()


def test_torch_and_safetensors_read_what_was_written(tmp_path):
    torch.manual_seed(0)
    tensors = {
        str(dtype): torch.randn(3, 5).mul(3).to(dtype) for dtype in DTYPE_NAMES if not str(dtype).endswith("fn")
    } | {
        "transposed": torch.randn(3, 5).t(),
        "part of a larger one": torch.randn(8, 8)[2:5, 3:7],
        "one number": torch.tensor(3),
        "no number": torch.empty(0, 3),
        "requires a gradient": torch.randn(3, requires_grad=True),
        "not ASCII: ä": torch.ones(1),
    }
    write(tmp_path, tensors, metadata={"format": "pt", "a": "b"})
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].float(), tensor.detach().float()), name
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "a": "b"}
    assert load_file(tmp_path / "a.safetensors")["torch.bfloat16"].view(torch.int16).tolist() == (
        tensors["torch.bfloat16"].view(torch.int16).tolist()
    )


def test_the_file_is_the_one_that_safetensors_writes(tmp_path):
    torch.manual_seed(0)
    tensors = {"b": torch.randn(3, 5), "a": torch.randn(2, 2).bfloat16(), "c": torch.arange(7), "d": torch.ones(3)}
    write(tmp_path, tensors, metadata={"format": "pt"})
    save_file(tensors, tmp_path / "other.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()


def test_tensors_are_asked_for_one_after_the_other(tmp_path):
    alive, most = 0, 0

    class Content(bytearray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def read():
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return memoryview(Content(2 * BLOCK_BYTES))

    sources = [TensorSource(f"t{number}", "U8", (2 * BLOCK_BYTES,), read) for number in range(12)]
    with folder_writer(tmp_path) as writer, writer.file("a") as file:
        write_tensors(file, sources, metadata={})
    assert most <= 4


def test_content_of_another_size_is_refused(tmp_path):
    wrong = TensorSource("a", "F32", (3,), lambda: memoryview(bytes(11)))
    with (
        folder_writer(tmp_path) as writer,
        pytest.raises(ValueError, match="a: 11 bytes, and its shape says 12"),
        writer.file("a") as file,
    ):
        write_tensors(file, [wrong], metadata={})
    assert writer.digests == {}


def test_a_block_that_fails_ends_the_file(tmp_path, monkeypatch):
    original = Path.open

    def open_or_fail(path, mode="r", *args, **kwargs):
        if mode == "r+b":
            raise OSError(28, "No space left on device")
        return original(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_or_fail)
    with folder_writer(tmp_path) as writer:
        with pytest.raises(OSError, match="No space left"), writer.file("a") as file:
            file.append(memoryview(bytes(20 * BLOCK_BYTES)))
        assert writer.digests == {}


def test_jobs_come_in_order_and_none_runs_after_a_failure():
    with block_threads() as pool:
        assert list(in_order(pool.submit(str, number) for number in range(50))) == list(map(str, range(50)))
        results = in_order(pool.submit(json.loads, text) for text in ["1", "2", "{", *["3"] * 30])
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(ValueError, match="Expecting property name"):
            next(results)


def test_a_machine_of_the_other_byte_order_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.byteorder", "big")
    with pytest.raises(CheckpointError, match="this machine has the high byte first"):
        write(tmp_path, {"a": torch.ones(2)})
