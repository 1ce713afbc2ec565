"""Pictures that ask for too much are refused before it is spent: memory, by what each form takes, and passes."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from systems.pixel_llm.data import image_limits, images
from systems.pixel_llm.data.image_limits import MAX_DECODING_BYTES
from systems.pixel_llm.data.images import examine_image, open_image, to_rgb
from systems.pixel_llm.errors import DatasetError

TURNED = Image.Exif()
TURNED[0x0112] = 6

FORMS: dict[str, tuple[str, str, dict[str, Any], float]] = {
    "gray JPEG": ("JPEG", "L", {}, 5),
    "JPEG": ("JPEG", "RGB", {}, 4),
    "turned JPEG": ("JPEG", "RGB", {"exif": TURNED}, 8),
    "CMYK JPEG": ("JPEG", "CMYK", {}, 8),
    "progressive JPEG": ("JPEG", "RGB", {"progressive": True}, 7),
    "progressive JPEG, colours in full": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 10),
    "PNG": ("PNG", "RGB", {}, 4),
    "PNG with alpha": ("PNG", "RGBA", {}, 8),
    "PNG with a clear colour": ("PNG", "RGB", {"transparency": (0, 0, 0)}, 8),
    "black and white PNG": ("PNG", "1", {}, 5),
    "gray PNG with alpha": ("PNG", "LA", {}, 8),
    "16-bit PNG": ("PNG", "I;16", {}, 6),
    "WebP": ("WEBP", "RGB", {}, 18),
    "GIF": ("GIF", "P", {}, 5),
    "TIFF, not packed": ("TIFF", "RGB", {}, 4),
    "TIFF in one strip": ("TIFF", "RGB", {"compression": "tiff_deflate", "tiffinfo": {278: 100}}, 7),
    "TIFF in strips": ("TIFF", "RGB", {"compression": "tiff_deflate", "tiffinfo": {278: 10}}, 4.3),
    "turned TIFF": ("TIFF", "RGB", {"compression": "tiff_lzw", "exif": TURNED}, 8),
    "float TIFF": ("TIFF", "F", {"compression": "tiff_deflate", "tiffinfo": {278: 10}}, 8),
}
"""Form -> kind, mode, how it is saved, bytes a pixel."""


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_refused_by_the_bytes_a_pixel_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    kind, mode, settings, bytes_a_pixel = FORMS[form]
    path = tmp_path / "a.jpg"
    Image.new(mode, (100, 100)).save(path, kind, **settings)
    monkeypatch.setattr(image_limits, "MAX_DECODING_BYTES", int(bytes_a_pixel * 10_000))
    assert open_image(path).size == (100, 100)
    monkeypatch.setattr(image_limits, "MAX_DECODING_BYTES", int(bytes_a_pixel * 10_000) - 1)
    for opening in (open_image, examine_image):
        with pytest.raises(
            DatasetError, match=rf"a\.jpg is too large: 100 x 100 pixels in this form \({kind}, .*Scale"
        ):
            opening(path)


MEASURE = """
import sys
from pathlib import Path
from PIL import Image
from systems.pixel_llm.data.images import examine_image, open_image

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

Image.init()
idle = peak()
for opening in (open_image, examine_image):
    assert opening(sys.argv[1])
print((peak() - idle) / 1024)
"""


@pytest.mark.slow  # pictures of up to 89 million pixels
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", FORMS)
def test_what_is_let_through_stays_below_512_mib(tmp_path: Path, repository_root: Path, form: str) -> None:
    kind, mode, settings, bytes_a_pixel = FORMS[form]
    side = int(min(MAX_DECODING_BYTES / bytes_a_pixel, image_limits.MAX_PIXELS) ** 0.5)
    if "tiffinfo" in settings:
        settings = {**settings, "tiffinfo": {278: side if settings["tiffinfo"][278] == 100 else side // 10}}
    path = tmp_path / "a.jpg"
    Image.new(mode, (side, side)).save(path, kind, **settings)
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], cwd=repository_root, capture_output=True, text=True, check=True
    )
    assert 100 < float(ended.stdout) < 512


def test_a_small_tiff_of_a_vast_tile_is_refused(tmp_path: Path) -> None:
    """Its 64 x 64 pixels lie in a tile of 30,000 x 16,000, which would take 1.4 GiB."""
    content = io.BytesIO()
    Image.new("RGB", (64, 64)).save(content, "TIFF", compression="tiff_deflate")
    data = content.getvalue() + b"\0" * (len(content.getvalue()) % 2)
    (offset,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    entries = [struct.unpack_from("<HHI4s", data, offset + 2 + 12 * number) for number in range(count)]
    renamed = {273: 324, 279: 325}  # the place and the length of strips become those of tiles
    tags = [(renamed.get(tag, tag), *rest) for tag, *rest in entries if tag != 278]
    tags += [(322, 4, 1, struct.pack("<I", 30_000)), (323, 4, 1, struct.pack("<I", 16_000))]
    directory = b"".join(struct.pack("<HHI4s", *tag) for tag in sorted(tags))
    data = data[:4] + struct.pack("<I", len(data)) + data[8:] + struct.pack("<H", len(tags)) + directory + bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(
        DatasetError, match=r"a\.tif is too large: 64 x 64 .* take 1,373 MiB of memory, and at most 500"
    ):
        open_image(tmp_path / "a.tif")


class TestScans:
    @pytest.fixture
    def jpeg(self) -> Callable[..., bytes]:
        """A progressive JPEG whose last scan, of eight or so, comes `more` times more."""

        def make(more: int, *, note: bytes = b"", behind: bytes = b"") -> bytes:
            content = io.BytesIO()
            Image.new("RGB", (64, 64), "red").save(content, "JPEG", progressive=True, comment=note)
            data = content.getvalue().removesuffix(b"\xff\xd9")
            last = data[data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda")) :]
            return data + last * more + b"\xff\xd9" + behind

        return make

    def test_many_are_refused(self, tmp_path: Path, jpeg: Callable[..., bytes]) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(jpeg(80))
        assert open_image(path).size == (64, 64)
        path.write_bytes(jpeg(20_000))
        for settings in ({}, {"at_least": (8, 8)}):
            with pytest.raises(DatasetError, match=r"a\.jpg is a JPEG of more than 100 scans, .*Save it anew"):
                open_image(path, **settings)

    def test_what_only_looks_like_a_scan_does_not_count(self, tmp_path: Path, jpeg: Callable[..., bytes]) -> None:
        """Marks in a note, and in what cameras put behind the picture, such as a film."""
        marks = b"\xff\xda\0\x08" * 5000
        (tmp_path / "a.jpg").write_bytes(jpeg(0, note=marks, behind=marks * 100))
        assert open_image(tmp_path / "a.jpg").size == (64, 64)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "PA", "RGBA", "I;16", "I", "F", "CMYK"])
def test_pictures_converted_in_strips_are_as_in_one(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    rng = np.random.default_rng(1)
    gray = rng.integers(0, 256, (23, 17), dtype=np.uint8)
    if mode in ("I;16", "I", "F"):
        values = gray.astype(np.float32) / 255 if mode == "F" else gray.astype(np.int32) * 257
        picture = Image.fromarray(values.astype(np.uint16) if mode == "I;16" else values)
    else:
        colours = Image.fromarray(rng.integers(0, 256, (23, 17, 4), dtype=np.uint8), "RGBA")
        picture = colours.convert("RGB").convert("P").convert("PA") if mode == "PA" else colours.convert(mode)
    for transparency in (None, 3):
        if transparency is not None and mode in ("L", "P", "I;16"):
            picture.info["transparency"] = transparency
        whole = np.asarray(to_rgb(picture))
        with monkeypatch.context() as patch:
            patch.setattr(images, "_STRIP_PIXELS", 40)
            assert np.array_equal(np.asarray(to_rgb(picture)), whole)
