import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from systems.pixel_llm.data import turbo_jpeg
from systems.pixel_llm.data.images import open_image, open_pixels
from systems.pixel_llm.data.transforms import scaled
from systems.pixel_llm.errors import DatasetError

SIZES = [None, (30, 40), (100, 100)]


def photograph(width: int = 333, height: int = 250) -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


FORMS = {
    "plain": {"quality": 90},
    "progressive": {"quality": 80, "progressive": True},
    "full colour": {"quality": 95, "subsampling": 0},
    "turned": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
}


@pytest.mark.parametrize("has_simplejpeg", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at_least", SIZES)
def test_pixels_are_those_of_the_picture_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, at_least: tuple[int, int] | None, has_simplejpeg: bool
) -> None:
    if has_simplejpeg:
        pytest.importorskip("simplejpeg", reason="needs simplejpeg, the extra `turbo`")
    else:
        monkeypatch.setattr(turbo_jpeg, "_decoder", lambda: None)
    path = tmp_path / "photo.jpg"
    photograph().save(path, **FORMS[form])
    picture = open_image(path, at_least=at_least)
    assert np.array_equal(open_pixels(path, at_least=at_least), np.asarray(picture).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_other_kinds_and_modes_are_read_too(tmp_path: Path, mode: str, kind: str) -> None:
    if (mode, kind) == ("CMYK", "PNG"):
        pytest.skip("there is no such file")
    photograph().convert(mode).save(tmp_path / "a", kind)
    assert np.array_equal(open_pixels(tmp_path / "a"), np.asarray(open_image(tmp_path / "a")).transpose(2, 0, 1))


def test_a_damaged_file_is_refused_in_the_very_same_words(tmp_path: Path) -> None:
    file = io.BytesIO()
    photograph().save(file, "JPEG", quality=90)
    path = tmp_path / "photo.jpg"
    path.write_bytes(file.getvalue()[: file.tell() // 2])
    with pytest.raises(DatasetError) as by_picture:
        open_image(path)
    with pytest.raises(DatasetError) as by_pixels:
        open_pixels(path)
    assert str(by_pixels.value) == str(by_picture.value)


def test_a_picture_is_never_decoded_to_less_than_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    photograph(1000, 800).save(path)
    found = {side: open_pixels(path, at_least=(side, side)).shape[1:] for side in (100, 101, 200, 201, 400, 401)}
    assert found == {
        100: (100, 125), 101: (200, 250), 200: (200, 250), 201: (400, 500), 400: (400, 500), 401: (800, 1000),
    }  # fmt: skip


def test_decoded_smaller_it_looks_the_same(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    photograph(640, 480).save(path, quality=90)
    whole, part = (scaled(open_pixels(path, at_least=size), (224, 224)) for size in (None, (224, 224)))
    error = np.mean((whole.astype(float) - part) ** 2)
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 38
