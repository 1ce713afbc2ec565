"""`webdataset`: tar shards."""

import gzip
import io
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systems.pixel_llm.data.folder import PICTURE_EXTENSIONS
from systems.pixel_llm.data.images import open_image
from systems.pixel_llm.data.picture_path import PackedPicture, open_picture_bytes
from systems.pixel_llm.data.readers import tar_headers
from systems.pixel_llm.data.samples import ReaderOptions, read_folder
from systems.pixel_llm.errors import DatasetError

TINY = {"a.jpg": b"first", "a.txt": b"a cat", "b.png": b"second", "b.json": b'{"caption": ["a dog", "one dog"]}'}
WANTED = {"a.jpg": ("a cat",), "b.png": ("a dog", "one dog")}


def tar_of(members: Mapping[str, bytes], *, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive of names and contents."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in members.items():
            add(archive, name, content)
    return file.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def with_header(archive: bytes, offset: int, **changes: tuple[int, bytes]) -> bytes:
    """The archive with bytes of a header replaced, each at its place in it, and the checksum put right again."""
    header = bytearray(archive[offset : offset + 512])
    for place, value in changes.values():
        header[place : place + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return archive[:offset] + bytes(header) + archive[offset + 512 :]


def contents_of(reading, shard: str = "x.tar") -> dict[str, tuple[str, ...]]:
    """Name inside the shard -> captions."""
    return {
        sample.image_path.path.removeprefix(f"{reading.dataset_dir / shard}/"): sample.captions
        for sample in reading.samples
    }


@pytest.fixture
def shard(folder: Callable[..., Path]) -> Callable[[bytes], Path]:
    """Call it with the bytes of `x.tar`; it gives the folder that holds it."""
    return lambda content: folder({"x.tar": content})


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pictures_and_captions_of_one_key(shard, form):
    reading = read_folder(shard(tar_of(TINY, form=form)))
    assert (reading.caption_format, reading.manifest, reading.told) == ("webdataset", None, "tar shards, 1 file")
    assert contents_of(reading) == WANTED
    contents = {}
    for sample in reading.samples:
        assert isinstance(sample.image_path, PackedPicture)
        with open_picture_bytes(sample.image_path) as file:
            contents[sample.image_path.name] = file.read()
    assert contents == {"a.jpg": b"first", "b.png": b"second"}


def test_reading_at_random_is_reading_in_order(folder, tiny_picture_folder):
    """Real pictures: each opens as the file that was put in, in whatever order."""
    pictures = tiny_picture_folder(count=9)
    members = {path.name: path.read_bytes() for path in sorted(pictures.iterdir())}
    in_order, mixed = list(members), list(members)
    random.Random(0).shuffle(mixed)
    data = folder({"0.tar": tar_of({name: members[name] for name in in_order})})
    other = folder({"sub/0.tar": tar_of({name: members[name] for name in mixed})}) / "sub"
    samples = read_folder(data, manifest_file="0.tar").samples
    assert len(samples) == 9
    for row in random.Random(1).sample(range(9), 9):
        picture = samples[row].image_path
        assert open_image(picture).tobytes() == open_image(pictures / picture.name).tobytes()
    assert [each.image_path.name for each in samples] == [each.image_path.name for each in read_folder(other).samples]
    assert [each.captions for each in samples] == [each.captions for each in read_folder(other).samples]


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({"a.jpg": b"1", "a.CAPTION": b"a cat"}, {"a.jpg": ("a cat",)}),
        ({"./sub/a.JPG": b"1", "sub//a.txt": b"a cat"}, {"sub/a.JPG": ("a cat",)}),
        ({"a.jpg": b"1", "a.txt": b"a cat", "a.json": b'{"caption": "no"}', "a.cls": b"3"}, {"a.jpg": ("a cat",)}),
        ({"a.jpg": b"1", "a.json": b'"a cat"'}, {"a.jpg": ("a cat",)}),
        ({"a.jpg": b"1", "a.json": b'["a cat", " "]'}, {"a.jpg": ("a cat",)}),
        ({"a.jpg": b"1", "a.json": b'{"caption": null, "text": "a cat"}'}, {"a.jpg": ("a cat",)}),
        ({"a.seg.png": b"1", "a.jpg": b"2", "a.txt": b"a cat"}, {"a.jpg": ("a cat",)}),
        ({"v.1.jpg": b"1", "v.1.txt": b"a cat"}, {"v.1.jpg": ("a cat",)}),
        ({"ü/é.jpg": b"1", "ü/é.txt": "ein Käfer".encode()}, {"ü/é.jpg": ("ein Käfer",)}),
        ({f"{'x' * 200}/a.jpg": b"1", f"{'x' * 200}/a.txt": b"a cat"}, {f"{'x' * 200}/a.jpg": ("a cat",)}),
        ({"b.txt": b"a dog", "a.txt": b"a cat", "a.jpg": b"1", "b.jpg": b"2"},
         {"a.jpg": ("a cat",), "b.jpg": ("a dog",)}),
    ],
)  # fmt: skip
def test_names_and_captions(shard, members, wanted):
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert contents_of(read_folder(shard(tar_of(members, form=form)))) == wanted


def test_a_key_of_the_json_that_holds_the_caption(shard):
    data = shard(tar_of({"a.jpg": b"1", "a.txt": b"a cat\none cat", "a.json": b'{"alt": "the cat", "text": "no"}'}))
    assert contents_of(read_folder(data)) == {"a.jpg": ("a cat one cat",)}
    assert contents_of(read_folder(data, options=ReaderOptions(caption_column="alt"))) == {"a.jpg": ("the cat",)}
    with pytest.raises(DatasetError, match="found 1 with no caption"):
        read_folder(data, options=ReaderOptions(caption_column="x"))


def test_what_is_passed_over(shard):
    members = {**TINY, "c.jpg": b"1", "d.txt": b"x", "e.jpg": b"1", "e.txt": b" \n", "f.jpg": b"1",
               "f.json": b'{"height": 3}', ".hidden": b"1", "README": b"1", "g.json": b"{}"}  # fmt: skip
    file = io.BytesIO(tar_of(members))
    with tarfile.open(fileobj=file, mode="a") as archive:
        add(archive, "folder", type=tarfile.DIRTYPE)
        add(archive, "link.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "hard.jpg", type=tarfile.LNKTYPE, linkname="a.jpg")
        add(archive, "pipe.jpg", type=tarfile.FIFOTYPE)
    reading = read_folder(data := shard(file.getvalue()))
    assert contents_of(reading) == WANTED
    named = {reason: [name.removeprefix(f"{data / 'x.tar'}/") for name in names]
             for reason, names in reading.passed_over.items() if names}  # fmt: skip
    assert named == {
        "no caption in the same file": ["c.jpg", "f.jpg"],
        "an empty caption in the same file": ["e.jpg"],
        "captions but no picture of that name": ["d.txt"],
        "a link or a device in the place of a file": ["hard.jpg", "link.jpg", "pipe.jpg"],
    }


def test_shards_whose_names_tell_a_split(folder):
    data = folder(
        {f"{name}.tar": tar_of({f"{name[-1]}.jpg": b"1", f"{name[-1]}.txt": b"a cat"})
         for name in ("coco-train2017-000", "coco-train2017-001", "coco_val2017-002", "sub/TEST-003", "more-004")}
    )  # fmt: skip
    reading = read_folder(data)
    assert reading.told == "tar shards, 5 files, divided by their names: 3 train, 1 dev, 1 test"
    assert [each.image_path.name for each in reading.split["train"]] == ["0.jpg", "1.jpg", "4.jpg"]
    assert [each.image_path.name for each in reading.split["dev"]] == ["2.jpg"]
    assert len(reading.samples) == 5
    one = read_folder(data, manifest_file="coco_val2017-002.tar")
    assert (one.told, one.split, len(one.samples)) == ("tar shards, coco_val2017-002.tar", {}, 1)


@pytest.mark.parametrize("names", [["train-0", "train-1"], ["val-0", "test-1"], ["retrain", "latest"], ["train-test"]])
def test_names_that_tell_no_split(folder, names):
    assert read_folder(folder({f"{name}.tar": tar_of(TINY) for name in names})).split == {}


def test_folders_whose_names_tell_a_split(folder):
    reading = read_folder(folder({"train/0.tar": tar_of(TINY), "validation/0.tar": tar_of(TINY)}))
    assert {part: len(samples) for part, samples in reading.split.items()} == {"train": 2, "dev": 2}


TINY_TAR = tar_of(TINY)
SECOND = 1024
"""Where the header of the second member begins."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.tar is damaged or cut off at byte 0: it is empty"),
        (b"no tar at all" * 100, r"x\.tar is not a tar file: .* at byte 0"),
        (b"short", r"x\.tar is damaged or cut off at byte 0: it ends there"),
        (TINY_TAR[: 2 * SECOND], r"cut off at byte 2,048: it ends there, without the zeros"),
        (TINY_TAR[: SECOND + 513], r"cut off at byte 1,024: the member 'a\.txt' should have 5 bytes, .*at byte 1,537"),
        (TINY_TAR[: SECOND + 100], r"cut off at byte 1,024: it ends there"),
        (TINY_TAR[:SECOND] + b"?" + TINY_TAR[SECOND + 1 :], r"at byte 1,024: expected the header .*bad checksum"),
        (TINY_TAR[:SECOND] + bytes(512) + TINY_TAR[SECOND + 512 :], r"at byte 1,536: more follows after the zeros"),
        (TINY_TAR + TINY_TAR, r"more follows after the zeros at byte 4,096"),
        (with_header(TINY_TAR, SECOND, size=(124, b"00077777777\0")), r"'a\.txt' should have 16,777,215 bytes"),
        (with_header(TINY_TAR, SECOND, size=(124, b"\x80" + b"\xff" * 11)), r"'a\.txt' should have [\d,]{20,} bytes"),
        (with_header(TINY_TAR, SECOND, size=(124, b"\xff" * 12)), r"'a\.txt' should have -1 bytes"),
        (with_header(TINY_TAR, 0, kind=(156, b"S")), r"holds a sparse file at byte 0"),
        (gzip.compress(TINY_TAR), r"x\.tar is compressed \(gzip\): .*Decompress it to a \.tar"),
        (tar_of({"a.jpg": b"1"}), r"No captioned pictures in .*x\.tar: expected .*found 1 with no caption"),
        (tar_of({"a.txt": b"1"}), r"found 1 with captions but no picture"),
        (tar_of({}), r"found nothing"),
        (tar_of({"../../etc/a.jpg": b"1", "../../etc/a.txt": b"x"}), r"a member that is called '\.\./\.\./etc/a\.jpg'"),
        (tar_of({"/etc/a.jpg": b"1", "/etc/a.txt": b"x"}), r"a member that is called '/etc/a\.jpg'"),
        (tar_of({f"{'x/' * 3000}a.jpg": b"1"}, form=tarfile.PAX_FORMAT), r"a member that is called 'x/x/"),
        (tar_of({**TINY, "./a.jpg": b"3"}), r"two members of one name: a\.jpg with .* byte 512, and \./a\.jpg .*4,608"),
        (tar_of({**TINY, "a.png": b"3"}), r"has a\.jpg and a\.png, which have one key"),
        (tar_of({**TINY, "a.txt": b"\xff\xfa"}), r"The caption in .*x\.tar/a\.txt is not text in UTF-8"),
        (tar_of({**TINY, "a.txt": b" " * (1 << 20) + b"a"}), r"x\.tar/a\.txt is too large: 1,048,577 bytes"),
        (tar_of({**TINY, "b.json": b"{"}), r"The file .*x\.tar/b\.json is not valid JSON"),
        (tar_of({**TINY, "b.json": b"3"}), r"No caption in .*x\.tar/b\.json: expected a string"),
    ],
)  # fmt: skip
def test_damaged(shard, content, message):
    with pytest.raises(DatasetError, match=message):
        read_folder(shard(content))


def header_of(kind: bytes, size: int) -> bytes:
    """A header of its own, with a right checksum."""
    return with_header(TINY_TAR, 0, kind=(156, kind), size=(124, b"%011o\0" % size))[:512]


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_a_header_that_would_take_much_memory(shard, kind):
    size = tar_headers.MAX_EXTRA_BYTES + 1
    with pytest.raises(DatasetError, match=r"at byte 0: a header of 1,048,577 bytes"):
        read_folder(shard(header_of(kind, size) + bytes(-(-size // 512) * 512) + TINY_TAR))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (b"17 size=99999999\n", r"'a\.jpg' should have 99,999,999 bytes"),
        (b"10 size=x\n", r"is no number"),
        (b"11 size=-1\n", r"should have -1 bytes"),
        (b"22 path=/etc/passwd.png\n", r"attributes cannot be read"),
        (b"24 path=/etc/passwd.png\n", r"a member that is called '/etc/passwd\.png'"),
        (b"15 path=a\0.jpg\n", r"a member that is called 'a\\x00\.jpg'"),
        (b"9" * 30 + b" path=a\n", r"attributes cannot be read"),
        (b"0 path=a\n", r"attributes cannot be read"),
        (b"23 GNU.sparse.major=1\n\n", r"holds a sparse file"),
    ],
)
def test_hostile_attributes(shard, attributes, message):
    content = header_of(b"x", len(attributes)) + attributes.ljust(512, b"\0") + TINY_TAR
    with pytest.raises(DatasetError, match=message):
        read_folder(shard(content))


def test_more_members_than_are_read(shard, monkeypatch):
    monkeypatch.setattr(tar_headers, "MAX_MEMBERS", 3)
    with pytest.raises(DatasetError, match="more than 3 members"):
        read_folder(shard(TINY_TAR))


def test_one_damaged_shard_stops_all(folder):
    with pytest.raises(DatasetError, match=r"1\.tar is damaged or cut off"):
        read_folder(folder({"0.tar": TINY_TAR, "1.tar": TINY_TAR[:700]}))


def test_compressed_shards(folder):
    data = folder({"0.tar.gz": gzip.compress(TINY_TAR)})
    with pytest.raises(DatasetError, match=r"0\.tar\.gz is compressed \(gzip\)"):
        read_folder(data)
    reading = read_folder(folder({"1.tar": TINY_TAR}))
    assert len(reading.samples) == 2
    assert "1 with a compressed archive: decompress it to a .tar" in reading.skipped


def test_a_link_out_of_the_folder(folder, tmp_path):
    (tmp_path / "out.tar").write_bytes(TINY_TAR)
    data = folder({"0.tar": TINY_TAR})
    (data / "1.tar").symlink_to("0.tar")
    assert len(read_folder(data).samples) == 4
    (data / "2.tar").symlink_to(tmp_path / "out.tar")
    with pytest.raises(DatasetError, match=r"2\.tar is a symbolic link that leads out"):
        read_folder(data)


def test_a_shard_that_has_changed_since(shard):
    samples = read_folder(data := shard(TINY_TAR)).samples
    (data / "x.tar").write_bytes(TINY_TAR[:300])
    with pytest.raises(DatasetError, match=r"x\.tar/a\.jpg should be 5 bytes from byte 512"):
        open_image(samples[0].image_path)


def test_other_formats_say_what_lies_there(shard):
    with pytest.raises(DatasetError, match=r'Found x\.tar there: .* "webdataset"'):
        read_folder(shard(TINY_TAR), "text")


flips = st.lists(st.tuples(st.integers(0, len(TINY_TAR) - 1), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flipped")


@settings(max_examples=150)
@given(flips=flips, fix=st.booleans(), keep=st.integers(0, len(TINY_TAR)) | st.just(len(TINY_TAR)))
def test_whatever_byte_is_wrong(place, flips, fix, keep):
    """Samples inside the file, or a DatasetError; with the checksum of the header put right, too."""
    content = TINY_TAR
    for at, value in flips:
        content = content[:at] + bytes([value]) + content[at + 1 :]
        if fix:
            content = with_header(content, at // 512 * 512)
    path = place / "x.tar"
    path.write_bytes(content[:keep])
    try:
        reading = read_folder(place)
    except DatasetError as error:
        str(error).encode()
        return
    for sample in reading.samples:
        picture = sample.image_path
        assert picture.container == str(path)
        assert picture.suffix.lower() in PICTURE_EXTENSIONS
        assert 0 <= picture.offset <= picture.offset + picture.size <= path.stat().st_size
        assert Path(picture.path).is_relative_to(path)
        assert ".." not in Path(picture.path).parts
        assert sample.captions
