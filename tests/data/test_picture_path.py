import os
from pathlib import Path

import pytest
from PIL import Image

from systems.pixel_llm.data.images import examine_image, open_image
from systems.pixel_llm.data.picture_path import PackedPicture, content_stamp
from systems.pixel_llm.errors import DatasetError


@pytest.fixture
def packed(tmp_path: Path) -> PackedPicture:
    """A red PNG in the middle of a larger file."""
    Image.new("RGB", (6, 4), (200, 10, 10)).save(tmp_path / "red.png")
    data = (tmp_path / "red.png").read_bytes()
    container = tmp_path / "box.bin"
    container.write_bytes(b"before" + data + b"behind")
    return PackedPicture(str(container), 6, len(data), f"{container}/red.png")


def test_a_packed_picture_opens_like_a_file(packed: PackedPicture):
    assert open_image(packed).getpixel((3, 2)) == (200, 10, 10)
    picture, facts = examine_image(packed)
    assert picture.size == (6, 4)
    assert facts.kind == "PNG"
    assert (packed.name, packed.stem, packed.suffix, os.fspath(packed)) == ("red.png", "red", ".png", str(packed))


@pytest.mark.parametrize(("offset", "size"), [(6, 10**6), (-1, 5), (10**9, 5), (6, 0)])
def test_a_place_outside_the_container_is_refused(packed: PackedPicture, offset: int, size: int):
    elsewhere = PackedPicture(packed.container, offset, size, packed.path)
    with pytest.raises(DatasetError, match=r"box.bin/red.png should be .* bytes from byte"):
        open_image(elsewhere)


def test_a_container_that_is_gone_is_told_by_the_name_of_the_picture(packed: PackedPicture):
    Path(packed.container).unlink()
    with pytest.raises(DatasetError, match=r"red\.png does not exist"):
        open_image(packed)


def test_a_damaged_packed_picture_is_told_by_its_name(packed: PackedPicture):
    with pytest.raises(DatasetError, match=r"red.png cannot be decoded|red.png is not a picture"):
        open_image(PackedPicture(packed.container, packed.offset, packed.size // 2, packed.path))


def test_the_stamp_changes_with_place_and_time(packed: PackedPicture, tmp_path: Path):
    stamp = content_stamp(packed)
    assert content_stamp(PackedPicture(packed.container, 0, packed.size, packed.path)) != stamp
    os.utime(packed.container, ns=(1, 1))
    assert content_stamp(packed) != stamp
    assert content_stamp(tmp_path / "red.png").size == packed.size
