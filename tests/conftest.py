"""What all tests share: one thread a process, no screen, the places tests read from, and small real pictures.

The thread count is set before anything imports torch, so that the two test processes of a two-core machine do not
fight, sums come out the same everywhere, and commands started by a test inherit it.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image, ImageDraw

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# Noisy machines make deadlines lie; the same examples every time keep a failure repeatable.
settings.register_profile("pixel-llm", deadline=None, derandomize=True)
settings.load_profile("pixel-llm")

COLOURS = {"red": (214, 40, 40), "blue": (38, 70, 200), "green": (40, 160, 70), "yellow": (240, 200, 40)}
SHAPES = ("square", "circle", "triangle")
SUFFIXES = (".jpg", ".png", ".webp")


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data(repository_root: Path) -> Path:
    """Real data sets beside the repository; a test that asks for them is skipped where they are not there."""
    folder = repository_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not beside this repository")
    return folder


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own empty folder, made the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_picture_folder(tmp_path: Path) -> Callable[..., Path]:
    """Call it as `tiny_picture_folder(name="pictures", count=6, size=(40, 32), text=True, manifest=False)`.

    It writes `count` pictures of one coloured shape each, `size` being (width, height) in pixels, as jpg, png and webp
    in turn; beside each its caption where `text`; manifest.json where `manifest`. Returns the folder, in tmp_path.
    """

    def write_folder(
        name: str = "pictures",
        count: int = 6,
        *,
        size: tuple[int, int] = (40, 32),
        text: bool = True,
        manifest: bool = False,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        captions = {}
        for index in range(count):
            colour, shape = list(COLOURS)[index % len(COLOURS)], SHAPES[index % len(SHAPES)]
            picture = folder / f"picture_{index:02}{SUFFIXES[index % len(SUFFIXES)]}"
            draw_shape(colour, shape, size).save(picture)
            captions[picture.name] = f"A {colour} {shape} on a white background"
            if text:
                picture.with_suffix(".txt").write_text(captions[picture.name] + "\n", encoding="utf-8")
        if manifest:
            (folder / "manifest.json").write_text(json.dumps(captions, indent=1), encoding="utf-8")
        return folder

    return write_folder


def draw_shape(colour: str, shape: str, size: tuple[int, int]) -> Image.Image:
    """One filled shape in the middle of a white picture of (width, height) pixels."""
    picture = Image.new("RGB", size, "white")
    width, height = size
    box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    left, top, right, bottom = box
    draw = ImageDraw.Draw(picture)
    if shape == "square":
        draw.rectangle(box, fill=COLOURS[colour])
    elif shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    else:
        draw.polygon([(left, bottom), (right, bottom), (width // 2, top)], fill=COLOURS[colour])
    return picture
