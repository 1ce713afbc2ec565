"""What the tests of the command line share: a way to run it in this process, and one small trained run.

A model of one narrow block a side on pictures of 32 pixels takes a second to train, which is enough to see every file
of a run.
"""

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from systems.pixel_llm.cli.main import main

TINY = [
    "--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
    "--batch-size", "4", "--precision", "fp32", "--num-workers", "0",
]  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of stdout."""
        return self.out.splitlines()


def draw_pictures(folder: Path, count: int = 12, *, captions: bool = True) -> Path:
    """`count` pictures of a coloured square each, with a caption beside it where `captions`."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        colour, place = ("red", "blue", "green")[index % 3], ("left", "right")[index % 2]
        picture = Image.new("RGB", (40, 32), "white")
        left = 4 if place == "left" else 24
        ImageDraw.Draw(picture).rectangle((left, 10, left + 12, 22), fill=colour)
        picture.save(folder / f"picture_{index:02}.png")
        if captions:
            (folder / f"picture_{index:02}.txt").write_text(f"A {colour} square on the {place}\n", encoding="utf-8")
    return folder


@pytest.fixture
def pixel_llm(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Call it with the words of a command line, in lists or alone; it runs in this process, in the current folder."""

    def run(*words: str | int | Path | Sequence[str | int | Path]) -> Ended:
        arguments: list[str] = []
        for word in words:
            arguments += [str(word)] if isinstance(word, str | int | Path) else map(str, word)
        capfd.readouterr()
        try:
            status = main(arguments)
        except SystemExit as ended:  # tyro ends the process by itself
            status = ended.code if isinstance(ended.code, int) else 1
        out, err = capfd.readouterr()
        assert "Traceback" not in err + out
        return Ended(status, out, err)

    return run


@pytest.fixture(scope="session")
def _drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("drawn") / "pictures")


@pytest.fixture(scope="session")
def _trained(_drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", str(_drawn), *TINY, "--max-steps", "3", "--out", str(out)]) == 0
    return out


@pytest.fixture
def pictures(_drawn: Path, in_tmp_path: Path) -> Path:
    """The folder `pictures`, a copy, in the current folder, which is the test's own: twelve captioned pictures."""
    shutil.copytree(_drawn, in_tmp_path / "pictures")
    return Path("pictures")


@pytest.fixture
def trained_run(_trained: Path, pictures: Path, in_tmp_path: Path) -> Path:
    """The folder `run`, a copy, beside `pictures`: three steps on them."""
    shutil.copytree(_trained, in_tmp_path / "run")
    return Path("run")


@pytest.fixture
def stopped_at_once() -> Any:
    """In the place of `stop_on_signals`: Ctrl-C comes before the first step, while the tokenizer is fitted, say."""

    @contextmanager
    def stop(request_stop: Callable[[], None]) -> Iterator[list[int]]:
        request_stop()
        yield [signal.SIGINT]

    return stop
