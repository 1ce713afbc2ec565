"""What is fuzzed, and what counts as a failure.

A target makes a case from a generator and runs it in a folder. Right is a result that keeps its promises, or one clear
error: DatasetError, from readers ConfigError too. Anything else is raised: whatever came instead, or `Wrong`.
"""

import logging
import os
import random
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from systems.pixel_llm.data.images import examine_image, open_image, open_pixels
from systems.pixel_llm.data.picture_path import PackedPicture, open_picture_bytes
from systems.pixel_llm.data.readers.registry import READERS
from systems.pixel_llm.data.samples import ReaderOptions, read_folder
from systems.pixel_llm.errors import ConfigError, DatasetError
from tests.fuzz.manifest_cases import MANIFEST_MAKERS, NAMES_TO_LOOK_AT, Case
from tests.fuzz.picture_mutations import mutate_picture
from tests.fuzz.picture_seeds import picture_seeds

__all__ = ["PICTURES", "Target", "Wrong", "all_targets", "data_folder", "formats_without_maker"]

MAX_MESSAGE = 10_000
"""Characters; a message that fills screens hides what it says."""

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")

_SLOW_SECONDS = 0.5
_LARGE_PIXELS = 4_000_000
"""A picture that took longer, or is larger, is not opened again to compare: memory is measured for one opening."""


class Wrong(Exception):
    """A result or a message that breaks a promise; the first argument says which, the second has the details."""


class Target(Protocol):
    """One thing that is fuzzed."""

    name: str

    def make(self, rng: random.Random) -> Case:
        """A case; the same for the same generator."""

    def check(self, folder: Path, case: Case) -> bool:
        """Run a case whose files lie in the folder; whether it was read. Raises whatever is wrong."""


@contextmanager
def data_folder(place: str | None = None) -> Iterator[Path]:
    """A folder as `manifest_cases` tells, with files beside it that must stay out of reach."""
    with tempfile.TemporaryDirectory(dir=place) as outside:
        data = Path(outside, "data")
        for name in ("a.jpg", "sub/b.JPG", "2_x/a.png"):
            (data / name).parent.mkdir(exist_ok=True, parents=True)
            (data / name).touch()
        for name in ("secret.jpg", "secret.txt", "a.png"):
            Path(outside, name).write_text("secret")
        (data / "out.jpg").symlink_to("../secret.jpg")
        (data / "away").symlink_to("/etc")
        (data / "loop.jpg").symlink_to("loop.jpg")
        (data / "folder.jpg").mkdir()
        os.mkfifo(data / "pipe.jpg")
        yield data


class _Pictures:
    name = "images"

    def make(self, rng: random.Random) -> Case:
        seeds = picture_seeds()
        return Case({"picture.bin": mutate_picture(rng.choice(seeds), rng, other=rng.choice(seeds))})

    def check(self, folder: Path, case: Case) -> bool:
        path = folder / next(iter(case.files))
        started = time.process_time()
        is_examined_first = zlib.crc32(next(iter(case.files.values()))) % 2
        first = _opened(lambda: examine_image(path)[0] if is_examined_first else open_image(path))
        if time.process_time() - started > _SLOW_SECONDS or (
            not isinstance(first, str) and first.width * first.height > _LARGE_PIXELS
        ):
            return not isinstance(first, str)
        smaller = _opened(lambda: open_image(path, at_least=(8, 8)))
        if isinstance(first, str) != isinstance(smaller, str):
            raise Wrong("a smaller scale is opened otherwise", f"{first} / {smaller}")
        if isinstance(first, str):
            if first != smaller:
                raise Wrong("other words at a smaller scale", f"{first!r} / {smaller!r}")
            return False
        examined = _opened(lambda: examine_image(path))
        if isinstance(examined, str):
            raise Wrong("opened, and not to be examined", examined)
        picture, facts = examined
        first = open_image(path)
        if not np.array_equal(np.asarray(first), np.asarray(picture)):
            raise Wrong("examined, it has other pixels")
        if (facts.width, facts.height) != picture.size:
            raise Wrong("examined, it has another size", f"{facts} {picture.size}")
        for at_least in (None, (9, 7)):
            if not np.array_equal(
                open_pixels(path, at_least=at_least).transpose(1, 2, 0), np.asarray(open_image(path, at_least=at_least))
            ):
                raise Wrong("the quick way, it has other pixels", str(at_least))
        return True


PICTURES = _Pictures()


def _opened(opening: Callable[[], Any]) -> Any:
    """The picture, or the words of the error."""
    try:
        found = opening()
    except DatasetError as error:
        _check_message(str(error))
        return str(error)
    picture = found[0] if isinstance(found, tuple) else found
    if picture.mode != "RGB" or 0 in picture.size:
        raise Wrong("no RGB picture", f"{picture.mode} {picture.size}")
    picture.getpixel((picture.width - 1, picture.height - 1))
    return found


class _Format:
    """A reader, of the file of its format."""

    def __init__(self, name: str, make: Callable[[random.Random], Case]) -> None:
        self.name = name
        self.make = make

    def check(self, folder: Path, case: Case) -> bool:
        return _read(folder, self.name, case.manifest, case.options)


class _Look:
    """The look at a folder that finds the format by itself, at the file of any format under any name."""

    name = "auto"

    def make(self, rng: random.Random) -> Case:
        case = rng.choice([make for name, make in MANIFEST_MAKERS.items() if name in READERS])(rng)
        files = {
            rng.choice(NAMES_TO_LOOK_AT) if rng.random() < 0.5 else name: content
            for name, content in case.files.items()
        }
        is_named = bool(files) and rng.random() < 0.5
        return Case(files, next(iter(files)) if is_named else None, case.options if rng.random() < 0.3 else {})

    def check(self, folder: Path, case: Case) -> bool:
        return _read(folder, "auto", case.manifest, case.options)


def all_targets() -> dict[str, Target]:
    """By name: pictures, every format of the registry that has a maker, and the look at a folder."""
    formats = [_Format(name, MANIFEST_MAKERS[name]) for name in READERS if name in MANIFEST_MAKERS]
    return {target.name: target for target in (PICTURES, *formats, _Look())}


def formats_without_maker() -> list[str]:
    """Those of the registry that nothing writes files for."""
    return [name for name in READERS if name not in MANIFEST_MAKERS]


class _Heard(logging.Handler):
    """Checks what is logged as messages are."""

    def emit(self, record: logging.LogRecord) -> None:
        _check_message(record.getMessage())


@contextmanager
def _what_is_logged_is_checked() -> Iterator[None]:
    """Inside, the package's log goes nowhere else."""
    logger, heard = logging.getLogger("systems.pixel_llm"), _Heard()
    before = logger.level, logger.propagate
    logger.addHandler(heard)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(heard)
        logger.propagate = before[1]
        logger.setLevel(before[0])


def _read(folder: Path, caption_format: str, manifest: str | None, options: dict[str, str]) -> bool:
    try:
        with _what_is_logged_is_checked():
            reading = read_folder(
                folder,
                caption_format,
                None if manifest is None else folder / manifest,
                options=ReaderOptions(**options),
            )
    except (DatasetError, ConfigError) as error:
        _check_message(str(error))
        return False
    real_folder = os.path.realpath(folder)
    if not reading.samples:
        raise Wrong("no samples and no error")
    for sample in reading.samples:
        if not os.path.realpath(str(sample.image_path)).startswith(real_folder + os.sep):
            raise Wrong("a picture outside the folder", str(sample.image_path))
        if isinstance(sample.image_path, PackedPicture) and sample.image_path.size:  # an empty one is a bad picture
            with open_picture_bytes(sample.image_path) as file:
                if len(file.read()) != sample.image_path.size:
                    raise Wrong("a packed picture of another size", repr(sample.image_path))
        if not sample.captions:
            raise Wrong("a sample without a caption")
        for caption in sample.captions:
            if caption != " ".join(caption.split()) or not caption:
                raise Wrong("a caption that is not clean", repr(caption))
            if re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", caption):
                raise Wrong("a caption with what no caption holds", repr(caption))
    _check_message(reading.told)
    _check_message(reading.skipped)
    return True


def _check_message(message: str) -> None:
    if not message.isprintable():
        raise Wrong("a message with control characters", repr(message[:MAX_MESSAGE]))
    if _ADDRESS.search(message):
        raise Wrong("a message with an address in memory", message)
    if len(message) > MAX_MESSAGE:
        raise Wrong("a message without end", f"{len(message)} characters: {message[:500]}")
