"""What the tests of the readers share: folders written from a table of names and contents."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from systems.pixel_llm.data.samples import Reading

Contents = Mapping[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Contents], Path]:
    """Call it with {name: content}: None is an empty file, as pictures may be where none is opened; bytes and text are
    written as they are, all else as JSON. Returns the folder, `data` in tmp_path.
    """

    def write(contents: Contents) -> Path:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        for name, content in contents.items():
            path = data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(content, str | bytes | None):
                content = json.dumps(content)
            path.write_bytes(content.encode() if isinstance(content, str) else content or b"")
        return data

    return write


def captions(reading: Reading) -> dict[str, tuple[str, ...]]:
    """Name within the folder -> captions, in the order of the samples."""
    return {
        sample.image_path.relative_to(reading.dataset_dir).as_posix(): sample.captions for sample in reading.samples
    }


@pytest.fixture
def captions_of() -> Callable[[Reading], dict[str, tuple[str, ...]]]:
    """The function `captions`."""
    return captions
