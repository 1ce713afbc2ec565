"""What all tests share: one thread a process, no screen, an empty cache, the places tests read from, small pictures.

The thread count is set before anything imports torch, so that the two test processes of a two-core machine do not
fight, sums come out the same everywhere, and commands started by a test inherit it.
"""

import atexit
import io
import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image, ImageDraw

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# Nothing is written into the home of whoever runs the tests, nor read from there; commands inherit it.
CACHE = Path(tempfile.mkdtemp(prefix="pixel-llm-tests-"))
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
os.environ["PIXEL_LLM_CACHE"] = str(CACHE / "cache")

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


@pytest.fixture
def write_bad_pictures() -> Callable[[Path], list[Path]]:
    """Call it with a folder: it puts there one of each kind of file that is no picture, and gives their paths back."""

    def write(folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        whole = io.BytesIO()
        draw_shape("red", "circle", (160, 120)).save(whole, "JPEG")
        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)  # 60,000 x 60,000 pixels of RGB
        bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        contents = {
            "bad_truncated.jpg": whole.getvalue()[: len(whole.getvalue()) // 2],
            "bad_empty.png": b"",
            "bad_text.jpg": b"this is text",
            "bad_bomb.png": bomb,
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        os.mkfifo(folder / "bad_pipe.jpg")
        (folder / "bad_loop.jpg").symlink_to("bad_loop.jpg")
        (folder / "bad_folder.png").mkdir()
        return sorted([*folder.glob("bad_*"), folder / "bad_absent.jpg"])

    return write


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


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
