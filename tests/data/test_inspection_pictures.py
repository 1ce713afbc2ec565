"""The scan of pictures: it finds exactly what cannot be opened, names what is odd, and never fails for a file."""

import os

import numpy as np
import pytest
from PIL import Image

from systems.pixel_llm.data.images import open_image
from systems.pixel_llm.data.inspection_pictures import (
    BadPicture,
    ScannedPicture,
    oddities,
    scan_pictures,
    sizes_of,
)
from systems.pixel_llm.data.near_duplicates import MAX_DISTANCE
from systems.pixel_llm.errors import DatasetError


def saved(folder, name, picture, **options):
    picture.save(folder / name, **options)
    return folder / name


def odd(path):
    (found,) = scan_pictures([path])
    assert isinstance(found, ScannedPicture), found
    return found, oddities(found)


def photo(size=(120, 90), mode="RGB"):
    return Image.linear_gradient("L").resize(size).convert(mode)


def test_pictures_come_back_in_order_with_their_true_size(tiny_picture_folder):
    folder = tiny_picture_folder(count=40, size=(400, 300), text=False)
    paths = sorted(folder.iterdir(), reverse=True)
    seen = []
    found = scan_pictures(paths, num_workers=3, on_progress=seen.append)
    assert [each.path for each in found] == paths
    assert {(each.facts.width, each.facts.height) for each in found} == {(400, 300)}  # JPEGs are decoded smaller
    assert {each.facts.kind for each in found} == {"JPEG", "PNG", "WEBP"}
    assert sum(seen) == 40


def test_a_small_jpeg_looks_like_the_same_picture_in_another_kind_of_file(tmp_path):
    generator = np.random.default_rng(0)
    for side in (100, 128, 200):
        for number in range(8):
            spots = Image.fromarray(generator.integers(0, 256, (12, 12, 3), np.uint8))
            picture = spots.resize((side, side), Image.Resampling.BICUBIC)
            paths = saved(tmp_path, f"{number}.jpg", picture, quality=90), saved(tmp_path, f"{number}.png", picture)
            as_jpeg, as_png = (each.fingerprint.hash for each in scan_pictures(paths))
            # Decoded to a quarter of their size they would differ in five, which is no near duplicate.
            assert (as_jpeg ^ as_png).bit_count() <= MAX_DISTANCE, (side, number)


def test_what_cannot_be_read_is_told_in_the_words_of_training(tmp_path):
    good = saved(tmp_path, "good.png", photo())
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:90])
    (tmp_path / "page.jpg").write_text("<html>not found</html>", encoding="utf-8")
    (tmp_path / "empty.gif").touch()
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "absent.jpg"]
    found = scan_pictures(paths)
    assert [each.path for each in found if not isinstance(each, BadPicture)] == [good]
    for each in found:
        if isinstance(each, BadPicture):
            with pytest.raises(DatasetError) as raised:
                open_image(each.path, at_least=(224, 224))
            assert str(raised.value) == f"{each.path} {each.reason}"


def test_real_odd_files_are_bad_exactly_where_training_cannot_open_them(shared_data):
    paths = sorted((shared_data / "odd_images" / "images").iterdir())
    for each in scan_pictures(paths):
        try:
            open_image(each.path, at_least=(224, 224))
        except DatasetError:
            assert isinstance(each, BadPicture), each
        else:
            assert isinstance(each, ScannedPicture), each


def test_an_ordinary_picture_is_not_odd(tmp_path):
    for name in ("a.jpg", "b.JPEG", "c.png", "d.webp", "e.bmp", "f.gif", "g.tif"):
        assert odd(saved(tmp_path, name, photo()))[1] == (), name


@pytest.mark.parametrize(
    ("name", "picture", "options", "expected"),
    [
        ("wide.jpg", photo((400, 100)), {}, "4.0 times as wide as high"),
        ("high.jpg", photo((100, 450)), {}, "4.5 times as high as wide"),
        ("icon.png", photo((16, 20)), {}, "tiny (16 x 20)"),
        ("huge.png", Image.new("1", (6000, 5000), 1), {}, "huge (30 megapixels)"),
        ("blank.png", Image.new("RGB", (90, 90), "white"), {}, "one colour all over"),
        ("print.jpg", photo(mode="CMYK"), {}, "CMYK, for print; its colours are approximated"),
        ("deep.png", Image.new("I;16", (90, 90), 9000), {}, "16 bits a channel; reduced to 8"),
        ("mapped.png", photo(), {"format": "JPEG"}, "named .png, but its content is JPEG"),
        ("nameless", photo(), {"format": "PNG"}, "named without an extension, but its content is PNG"),
        (
            "moving.gif", photo(mode="P"), {"save_all": True, "append_images": [Image.new("P", (120, 90), 3)]},
            "several pictures in one file; the first is used",
        ),
        (
            "moving.webp", photo(), {"save_all": True, "append_images": [Image.new("RGB", (120, 90), "red")]},
            "several pictures in one file; the first is used",
        ),
    ],
)  # fmt: skip
def test_an_odd_picture_is_named(tmp_path, name, picture, options, expected):
    assert expected in odd(saved(tmp_path, name, picture, **options))[1]


@pytest.mark.parametrize(("orientation", "size"), [(1, (120, 90)), (3, (120, 90)), (6, (90, 120)), (8, (90, 120))])
def test_a_turned_picture_has_the_size_it_is_looked_at_in(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found, what = odd(saved(tmp_path, "turned.jpg", photo(), exif=exif))
    assert (found.facts.width, found.facts.height) == size
    assert what == (() if orientation == 1 else ("turned by its EXIF note",))


def test_sixteen_bits_are_seen_where_pillow_gives_eight(tmp_path):
    deep = tmp_path / "deep.png"
    deep.write_bytes(png_16_bit_rgb(40, 40))
    assert odd(deep)[1] == ("one colour all over", "16 bits a channel; reduced to 8")


def png_16_bit_rgb(width: int, height: int) -> bytes:
    """A gray PNG of three 16-bit channels, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + b"\x80\x00" * 3 * width) * height
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sizes_are_summed_up(tmp_path):
    sizes = [(100, 50), (100, 50), (300, 300), (640, 480)]
    paths = [saved(tmp_path, f"{place}.png", photo(size)) for place, size in enumerate(sizes)]
    found = sizes_of([each for each in scan_pictures(paths) if isinstance(each, ScannedPicture)], image_size=300)
    assert (found.width.minimum, found.width.median, found.width.maximum) == (100, 100, 640)
    assert found.aspect_ratio.maximum == 2
    assert found.most_common[0] == ("100 x 50", 2)
    assert (found.num_different, found.num_smaller) == (3, 2)
    assert sum(bar.count for bar in found.shorter_side_bars) == sum(bar.count for bar in found.aspect_ratio_bars) == 4
    assert sizes_of([], image_size=300) is None


def test_a_failure_of_the_program_itself_is_not_hidden(tiny_picture_folder):
    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan_pictures(sorted(tiny_picture_folder(count=40).glob("*.jpg")), on_progress=stop)
