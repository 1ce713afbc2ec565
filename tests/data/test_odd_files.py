"""Files that no repository can hold: what may not be read, what is no file, odd names, and what changes meanwhile."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch.utils.data import DataLoader

from systems.pixel_llm.data import ImageCaptionDataset
from systems.pixel_llm.data.collate import BadPicture
from systems.pixel_llm.data.images import open_image
from systems.pixel_llm.data.readers.captions import read_text
from systems.pixel_llm.data.samples import Reading, read_folder
from systems.pixel_llm.errors import DatasetError


def captions(reading: Reading) -> dict[str, tuple[str, ...]]:
    return {str(sample.image_path.relative_to(reading.dataset_dir)): sample.captions for sample in reading.samples}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one picture and its caption."""
    folder = tmp_path / "data"
    folder.mkdir()
    draw(folder / "a.jpg")
    (folder / "a.txt").write_text("a cat")
    return folder


def draw(path: Path) -> None:
    Image.new("RGB", (24, 16), "red").save(path, "JPEG")


# --- what may not be read ---------------------------------------------------------------------------------------------

AS_ANOTHER_USER = """
import json, os, sys, tempfile
from pathlib import Path
from PIL import Image
from systems.pixel_llm.data.images import open_image
from systems.pixel_llm.data.samples import read_folder
from systems.pixel_llm.errors import DatasetError

b"x".decode("utf-8-sig"), Image.init()  # loaded while all may be read
if os.getuid() == 0:  # root reads what it likes
    os.setgid(65534)
    os.setuid(65534)

def tell(function, *arguments):
    try:
        function(*arguments)
    except DatasetError as error:
        return str(error)
    return "read"

told = {}
with tempfile.TemporaryDirectory() as top:
    def folder(name, **contents):
        path = Path(top, name)
        path.mkdir()
        (path / "a.jpg").touch()
        for each, content in contents.items():
            (path / each.replace("_", ".")).write_text(content)
        return path

    path = folder("caption", a_txt="a cat")
    (path / "a.txt").chmod(0)
    told["caption"] = tell(read_folder, path)
    path = folder("picture", a_jpg="no matter what")
    (path / "a.jpg").chmod(0)
    told["picture"] = tell(open_image, path / "a.jpg")
    path = folder("manifest", manifest_json='{"a.jpg": "a cat"}')
    (path / "manifest.json").chmod(0)
    told["manifest"] = tell(read_folder, path)
    path = folder("folder", a_txt="a cat")
    path.chmod(0)
    told["folder"] = tell(read_folder, path)
    told["picture in a closed folder"] = tell(open_image, path / "a.jpg")
    path.chmod(0o700)
    path = folder("below", a_txt="a cat")
    (path / "sub").mkdir(mode=0)
    told["folder below"] = tell(read_folder, path)
    path = folder("named", manifest_json='{"a.jpg": "a", "sub/b.jpg": "b"}')
    (path / "sub").mkdir(mode=0)
    told["folder that a manifest names"] = tell(read_folder, path)
print(json.dumps(told))
"""

WORDS = {
    "caption": "The caption file TOP/caption/a.txt cannot be read: Permission denied. Check its permissions.",
    "picture": "TOP/picture/a.jpg cannot be decoded: [Errno 13] Permission denied:",
    "manifest": "The manifest TOP/manifest/manifest.json cannot be read: Permission denied. Check its permissions.",
    "folder": "The data folder TOP/folder cannot be read: [Errno 13] Permission denied:",
    "picture in a closed folder": "TOP/folder/a.jpg cannot be opened: [Errno 13] Permission denied:",
    "folder below": "The data folder TOP/below/sub cannot be read: [Errno 13] Permission denied:",
    "folder that a manifest names": "The folder TOP/named/sub, in which pictures are looked for, cannot be read: Perm",
}


@pytest.fixture(scope="module")
def told_to_another_user() -> dict[str, str]:
    ended = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_USER], cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, str] = json.loads(ended.stdout)
    return told


@pytest.mark.parametrize("what", WORDS)
def test_what_may_not_be_read_is_named(told_to_another_user: dict[str, str], what: str) -> None:
    before, after = WORDS[what].split("TOP")
    message = told_to_another_user[what]
    assert message.startswith(before)
    assert after in message


# --- what is no file --------------------------------------------------------------------------------------------------


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have some hundred bytes only
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def make_device(path: Path) -> None:
    try:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("only root makes devices")


NO_FILES: dict[str, Callable[[Path], Any]] = {
    "folder": os.mkdir,
    "pipe": os.mkfifo,
    "socket": make_socket,
    "device": make_device,
    "link to nothing": lambda path: path.symlink_to("nothing.jpg"),
    "link in a circle": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("what", NO_FILES)
@pytest.mark.parametrize("name", ["b.jpg", "b.txt", "manifest.json", "x.csv"])
def test_what_is_no_file_is_not_opened(data: Path, what: str, name: str) -> None:
    NO_FILES[what](data / name)
    assert captions(read_folder(data)) == {"a.jpg": ("a cat",)}


@pytest.mark.parametrize("what", NO_FILES)
def test_nor_where_it_is_named(data: Path, what: str) -> None:
    NO_FILES[what](data / "b.jpg")
    (data / "manifest.json").write_text('{"a.jpg": "a cat", "b.jpg": "b"}')
    reading = read_folder(data, "json")
    assert captions(reading) == {"a.jpg": ("a cat",)}
    assert reading.skipped == "1 with no such picture (b.jpg)"
    with pytest.raises(
        DatasetError, match=r"b\.jpg (is a folder|is not a regular file|does not exist|cannot be opened)"
    ):
        open_image(data / "b.jpg")
    with pytest.raises(DatasetError, match=r"The manifest .*b\.jpg does not exist or is not a file"):
        read_folder(data, "auto", data / "b.jpg")


def test_a_link_to_a_folder_elsewhere_leads_to_no_picture(data: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    draw(tmp_path / "elsewhere" / "b.jpg")
    (tmp_path / "elsewhere" / "b.txt").write_text("b")
    (data / "link").symlink_to(tmp_path / "elsewhere")
    reading = read_folder(data)
    assert (captions(reading), "not followed (link)" in reading.skipped) == ({"a.jpg": ("a cat",)}, True)
    (data / "manifest.json").write_text('{"a.jpg": "a cat", "link/b.jpg": "b"}')
    with pytest.raises(DatasetError, match=r"'link/b\.jpg' .*leaves the data folder"):
        read_folder(data, "json")


# --- odd names --------------------------------------------------------------------------------------------------------

ODD_NAMES = {
    "spaces": " a  b ",
    "a line break": "a\nb",
    "a terminal's command": "a\x1b[31mb",
    "an emoji": "🙂",
    "accents stored apart": "e\u0301",
    "right to left": "حصان",
    "turned round": "a\u202eb",
    "quotes": "a'b\"c",
    "backslash": "a\\b",
    "percent": "a%sb%n",
    "hash": "a#0",
    "leading dash": "-rf",
    "bytes that are no text": os.fsdecode(b"a\xff"),
    "as long as can be": "x" * 251,
}


@pytest.mark.parametrize("what", ODD_NAMES)
def test_pictures_of_odd_names_are_read_opened_and_told_without_harm(
    data: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = ODD_NAMES[what]
    draw(data / f"{name}.jpg")
    (data / f"{name}.txt").write_text("odd")
    caplog.set_level(logging.INFO)
    reading = read_folder(data)
    assert captions(reading) == {"a.jpg": ("a cat",), f"{name}.jpg": ("odd",)}
    dataset = ImageCaptionDataset(data, samples=reading.samples, image_size=(8, 8), on_bad_sample="skip")
    batch = next(iter(DataLoader(dataset, batch_size=2, collate_fn=dataset.get_collate_fn())))
    assert sorted(batch["captions"]) == ["a cat", "odd"]
    (data / f"{name}.jpg").write_bytes(b"no picture")
    again = ImageCaptionDataset(data, samples=reading.samples, image_size=(8, 8), on_bad_sample="skip")
    (bad,) = [item for item in (again[0], again[1]) if isinstance(item, BadPicture)]
    assert (bad.path, bad.reason.isprintable()) == (str(data / f"{name}.jpg"), True)
    with pytest.raises(DatasetError) as caught:
        open_image(data / f"{name}.jpg")
    assert str(caught.value).isprintable()
    (data / f"{name}.txt").unlink()
    assert captions(read_folder(data)) == {"a.jpg": ("a cat",)}
    for record in caplog.records:
        assert record.getMessage().isprintable()


@pytest.mark.parametrize("what", [what for what in ODD_NAMES if what not in ("bytes that are no text", "backslash")])
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_manifest_can_name_them(data: Path, what: str, form: str) -> None:
    name = f"{ODD_NAMES[what].strip()}.jpg"
    draw(data / name)
    content = json.dumps({name: "odd"} if form == "json" else {"file_name": name, "text": "odd"})
    (data / f"x.{form}").write_text(content)
    assert captions(read_folder(data, form, data / f"x.{form}")) == {name: ("odd",)}


# --- files that change ------------------------------------------------------------------------------------------------


def dataset_of(data: Path, **settings: Any) -> ImageCaptionDataset:
    return ImageCaptionDataset(data, image_size=(8, 8), **settings)


def test_a_picture_that_vanishes_is_bad_from_then_on(data: Path) -> None:
    dataset = dataset_of(data, on_bad_sample="skip")
    (data / "a.jpg").unlink()
    item = dataset[0]
    assert isinstance(item, BadPicture)
    assert "does not exist" in item.reason
    with pytest.raises(DatasetError, match=r"a\.jpg does not exist"):
        ImageCaptionDataset(data, samples=dataset.samples, image_size=(8, 8))[0]


def test_a_folder_that_vanishes_is_named(data: Path) -> None:
    shutil.rmtree(data)
    with pytest.raises(DatasetError, match=r"The data folder .* does not exist"):
        read_folder(data)


def test_a_picture_that_is_still_being_written_is_bad_now_and_good_once_it_is_whole(data: Path) -> None:
    dataset = dataset_of(data, on_bad_sample="skip")
    whole = (data / "a.jpg").read_bytes()
    (data / "a.jpg").write_bytes(whole[: len(whole) // 2])
    assert isinstance(dataset[0], BadPicture)
    (data / "a.jpg").write_bytes(whole)
    item = dataset[0]
    assert not isinstance(item, BadPicture)
    assert item["image"].shape == (3, 8, 8)


def test_a_picture_that_becomes_a_pipe_or_a_link_in_a_circle_does_not_block(data: Path) -> None:
    dataset = dataset_of(data, on_bad_sample="skip")
    for make in (os.mkfifo, lambda path: path.symlink_to(path.name)):
        (data / "a.jpg").unlink()
        make(data / "a.jpg")
        assert isinstance(dataset[0], BadPicture)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_a_text_that_is_longer_than_its_size_said_is_cut_off_by_an_error() -> None:
    path = Path("/proc/self/cmdline")  # its size is 0, as that of a file that grows once it was looked at
    assert path.stat().st_size == 0
    with pytest.raises(DatasetError, match=r"cmdline is too large: 5 bytes, at most 4 are read"):
        read_text(path, max_bytes=4, what="caption file")
