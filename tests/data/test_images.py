import csv
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from systems.pixel_llm.data.images import open_image, open_pixels, to_rgb
from systems.pixel_llm.data.transforms import make_transform
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.preprocessing import Preprocessing

BAD_IMAGES = Path(__file__).resolve().parents[2].parent / "shared" / "badimages"


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    """A picture in which every corner differs: red grows to the right, green downwards."""
    red = np.tile(np.linspace(0, 255, width), (height, 1))
    green = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 60)], -1).astype(np.uint8))


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


class TestKinds:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
    def test_kinds_are_told_by_content_not_by_name(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "picture.txt"
        gradient().save(path, format=kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
        image = open_image(path)
        assert (image.mode, image.size) == ("RGB", (48, 32))
        assert np.abs(np.asarray(image, dtype=int) - np.asarray(gradient(), dtype=int)).mean() < 6

    @pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO", "TGA", "PCX"])
    def test_other_kinds_are_refused(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "picture.jpg"
        gradient(32, 32).save(path, format=kind)
        with pytest.raises(DatasetError, match=r"picture\.jpg is not a picture that can be read: .*Convert it"):
            open_image(path)

    def test_first_frame_of_an_animation(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        assert pixel(open_image(tmp_path / "a.gif")) == (255, 0, 0)


class TestModes:
    def test_alpha_is_laid_on_white(self, tmp_path: Path) -> None:
        for mode, clear, half in (("RGBA", (0, 0, 0, 0), (0, 0, 0, 128)), ("LA", (0, 0), (0, 128))):
            image = Image.new(mode, (2, 1), clear)
            image.putpixel((1, 0), half)
            image.save(tmp_path / "a.png")
            opened = open_image(tmp_path / "a.png")
            assert pixel(opened) == (255, 255, 255)
            assert pixel(opened, 1) == (127, 127, 127)

    def test_transparent_palette_colours_are_laid_on_white(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1), 0)
        image.putpalette([200, 0, 0, 0, 0, 200])
        image.putpixel((1, 0), 1)
        for transparency in (0, b"\x00\xff"):
            image.save(tmp_path / "a.png", transparency=transparency)
            opened = open_image(tmp_path / "a.png")
            assert (pixel(opened), pixel(opened, 1)) == ((255, 255, 255), (0, 0, 200))

    def test_palette_with_alpha_is_laid_on_white(self) -> None:
        image = Image.new("RGBA", (1, 1), (10, 20, 30, 0)).convert("PA")
        assert pixel(to_rgb(image)) == (255, 255, 255)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bit_gray_is_scaled_not_clipped(self, tmp_path: Path, suffix: str) -> None:
        values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / f"a{suffix}")
        assert np.asarray(open_image(tmp_path / f"a{suffix}"))[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_transparent_16_bit_gray_is_white(self) -> None:
        image = Image.fromarray(np.array([[0, 500]], dtype=np.uint16))
        image.info["transparency"] = 500
        assert [pixel(to_rgb(image), x)[0] for x in (0, 1)] == [0, 255]

    def test_integer_and_float_gray(self) -> None:
        integer = Image.fromarray(np.array([[-5, 0, 65535, 99999]], dtype=np.int32))
        assert np.asarray(to_rgb(integer))[0, :, 2].tolist() == [0, 0, 255, 255]
        to_one = Image.fromarray(np.array([[-1, 0, 0.5, 1, np.nan]], dtype=np.float32))
        assert np.asarray(to_rgb(to_one))[0, :, 0].tolist() == [0, 0, 128, 255, 0]
        to_255 = Image.fromarray(np.array([[0, 100, 255, 900]], dtype=np.float32))
        assert np.asarray(to_rgb(to_255))[0, :, 0].tolist() == [0, 100, 255, 255]

    def test_cmyk_is_converted(self, tmp_path: Path) -> None:
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
        red, green, blue = pixel(open_image(tmp_path / "a.jpg"), 4, 4)
        assert red > 240
        assert max(green, blue) < 15

    def test_rgb_is_returned_as_it_is(self) -> None:
        image = gradient()
        assert to_rgb(image) is image


class TestTurn:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_exif_turn_gives_the_same_upright_picture(self, tmp_path: Path, orientation: int) -> None:
        undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # 6 is shown by a turn of 270 degrees: store one of 90
        stored = gradient()
        if orientation in undo:
            stored = stored.transpose(Image.Transpose(undo[orientation]))
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(tmp_path / "a.png", exif=exif)
        assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), np.asarray(gradient()))

    def test_unreadable_exif_turns_nothing(self, tmp_path: Path) -> None:
        gradient().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
        assert open_image(tmp_path / "a.jpg").size == (48, 32)


class TestFailures:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
    def test_truncated_files(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "cut.jpg"
        gradient(200, 200).save(path, format=kind)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DatasetError, match=r"cut\.jpg .*(damaged|not a picture)"):
            open_image(path)

    def test_damage_that_a_second_attempt_would_pass(self, tmp_path: Path) -> None:
        path = tmp_path / "flip.png"
        gradient(200, 200).save(path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
        for _ in range(2):
            with pytest.raises(DatasetError, match=r"flip\.png cannot be decoded: .*replace it"):
                open_image(path)

    @pytest.mark.parametrize(
        ("content", "message"), [(b"", r"is empty \(0 bytes\)"), (b"<html>no</html>", "is not a picture")]
    )
    def test_no_picture(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            open_image(tmp_path / "a.jpg")

    def test_what_is_no_regular_file_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jpg")
        (tmp_path / "loop.jpg").symlink_to("loop.jpg")
        for name, message in (
            ("pipe.jpg", "is not a regular file"),
            ("loop.jpg", "cannot be opened"),
            ("gone.jpg", "does not exist"),
            ("a\0.jpg", "cannot be opened"),
            ("", "is a folder"),
        ):
            with pytest.raises(DatasetError, match=message):
                open_image(tmp_path / name)

    @pytest.mark.parametrize("side", [10_000, 13_500])
    def test_too_many_pixels_are_refused_before_decoding(self, tmp_path: Path, side: int) -> None:
        path = tmp_path / "bomb.png"
        Image.new("1", (side, side)).save(path)
        assert path.stat().st_size < 100_000
        with pytest.raises(DatasetError, match=r"bomb\.png is too large: .*89,478,485.*Scale it down"):
            open_image(path)

    def test_warnings_of_the_decoder_neither_escape_nor_raise(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        gradient().save(path, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff")
        for action in ("error", "always"):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter(action)  # type: ignore[arg-type]
                before = list(warnings.filters)
                open_image(path)
                assert list(warnings.filters) == before
            assert not caught

    def test_warning_filters_survive_threads(self, tmp_path: Path) -> None:
        gradient().save(tmp_path / "a.png")
        before = list(warnings.filters)

        def open_many() -> None:
            for _ in range(20):
                open_image(tmp_path / "a.png")

        threads = [threading.Thread(target=open_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(warnings.filters) == before


class TestTransform:
    def test_stretches_scales_and_normalises(self) -> None:
        preprocessing = Preprocessing(image_size=(20, 30), mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.5))
        image = make_transform(preprocessing)(gradient())
        assert (image.shape, image.dtype, image.is_contiguous()) == ((3, 20, 30), torch.float32, True)
        pixels = np.asarray(gradient().resize((30, 20), Image.Resampling.BICUBIC)) / 255
        expected = (pixels - [0.5, 0.4, 0.3]) / [0.1, 0.2, 0.5]
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-5)

    def test_takes_pictures_of_any_mode(self) -> None:
        transform = make_transform(Preprocessing(image_size=(4, 4)))
        white = transform(Image.new("RGB", (9, 9), "white"))
        assert torch.equal(transform(Image.new("RGBA", (9, 9), (0, 0, 0, 0))), white)

    def test_large_jpegs_are_decoded_smaller_and_look_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "large.jpg"
        gradient(1600, 1200).save(path, quality=95)
        small = open_image(path, at_least=(100, 100))
        assert small.size == (200, 150)
        transform = make_transform(Preprocessing(image_size=(100, 100), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
        assert (transform(small) - transform(open_image(path))).abs().mean() < 0.01

    def test_other_large_pictures_are_averaged_down_and_look_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "large.png"
        gradient(2600, 2000).save(path)
        small = open_image(path, at_least=(100, 150))
        assert small.size == (325, 250), "an eighth, the smallest that is twice as wide and high as asked for"
        transform = make_transform(Preprocessing(image_size=(100, 150), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
        assert (transform(small) - transform(open_image(path))).abs().mean() < 0.01
        assert np.array_equal(open_pixels(path, at_least=(100, 150)).transpose(1, 2, 0), np.asarray(small))

    def test_small_jpegs_are_decoded_in_full(self, tmp_path: Path) -> None:
        gradient(300, 150).save(tmp_path / "a.jpg")
        assert open_image(tmp_path / "a.jpg", at_least=(100, 100)).size == (300, 150)


@pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="needs ../shared/badimages beside the repository")
def test_a_corpus_of_odd_damaged_and_hostile_files() -> None:
    with (BAD_IMAGES / "expected.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["bytes"] and int(row["bytes"]) < 100_000]
    wrong = []
    for row in rows:
        try:
            image = open_image(BAD_IMAGES / row["file"])
        except DatasetError as error:
            if row["expect"] == "load" or row["file"] not in str(error):
                wrong.append((row["file"], str(error)))
            continue
        if row["expect"] == "reject" or image.mode != "RGB":
            wrong.append((row["file"], "loaded"))
        elif row["expect"] == "load":
            luma = row["mean_luma_on_white"] or row["mean_luma"]
            found = np.asarray(image.convert("L")).mean()
            if image.size != (int(row["width"]), int(row["height"])) or (luma and abs(found - float(luma)) > 6):
                wrong.append((row["file"], f"{image.size} luma {found:.1f}"))
    assert not wrong
    assert len(rows) > 600
