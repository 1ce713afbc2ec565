"""`parquet`: tables that hold the pictures themselves."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systems.pixel_llm.data.cache_folder import cache_folder
from systems.pixel_llm.data.images import open_image
from systems.pixel_llm.data.picture_path import open_picture_bytes
from systems.pixel_llm.data.readers import parquet_pictures, parquet_table, unpacked
from systems.pixel_llm.data.samples import ReaderOptions, read_folder
from systems.pixel_llm.errors import DatasetError

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None

TINY = {"image": [b"first", b"second"], "text": ["a cat", "a dog"]}


@pytest.mark.skipif(HAS_PYARROW, reason="pyarrow is installed")
def test_without_pyarrow_the_error_names_the_extra(folder):
    with pytest.raises(DatasetError, match=r"x\.parquet needs pyarrow, .* pip install 'pixel-llm\[parquet\]'"):
        read_folder(folder({"x.parquet": b"PAR1"}))


needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason="needs pyarrow, the extra `parquet`")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("PIXEL_LLM_CACHE", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Call it as `write(name, column=[...], ...)`: it writes a table into `data`, and gives that folder."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
    from pyarrow import parquet

    def write_table(table: str = "x.parquet", /, *, rows_a_group: int = 2, **columns: object) -> Path:
        path = tmp_path / "data" / table
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table(columns), path, row_group_size=rows_a_group)
        return tmp_path / "data"

    return write_table


def contents_of(reading) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """Name inside the folder -> the picture's bytes and captions."""
    found = {}
    for sample in reading.samples:
        with open_picture_bytes(sample.image_path) as file:
            found[sample.image_path.path.removeprefix(f"{reading.dataset_dir}/")] = (file.read(), sample.captions)
    return found


def test_bytes_and_captions(write):
    reading = read_folder(write(**TINY))
    assert (reading.caption_format, reading.manifest, reading.told) == ("parquet", None, "Parquet tables, 1 file")
    assert contents_of(reading) == {
        "x.parquet/row-000000": (b"first", ("a cat",)),
        "x.parquet/row-000001": (b"second", ("a dog",)),
    }


def test_structs_as_hugging_face_writes_them(write):
    images = [
        {"bytes": b"first", "path": "sub/a.jpg"},
        {"bytes": b"second", "path": None},
        {"bytes": b"third", "path": "sub/a.jpg"},
        {"bytes": b"fourth", "path": "../../etc/a.jpg"},
        {"bytes": b"fifth", "path": "/etc/passwd.png"},
        {"bytes": b"sixth", "path": "row-000000"},
    ]
    reading = read_folder(write(image=images, caption=[["a cat", "one cat"], ["x"], ["x"], ["x"], ["x"], ["x"]]))
    found = {name.removeprefix("x.parquet/"): each for name, each in contents_of(reading).items()}
    assert found == {
        "sub/a.jpg": (b"first", ("a cat", "one cat")),
        "row-000001": (b"second", ("x",)),
        "row-000002": (b"third", ("x",)),
        "row-000003": (b"fourth", ("x",)),
        "row-000004": (b"fifth", ("x",)),
        "row-000005": (b"sixth", ("x",)),
    }


def test_rows_of_the_very_same_picture_are_its_captions(write):
    reading = read_folder(write(image=[b"1", b"2", b"1", b"1"], text=["a cat", "a dog", "one cat", "a cat"]))
    assert [captions for _, captions in contents_of(reading).values()] == [("a cat", "one cat"), ("a dog",)]
    assert Path(reading.samples[0].image_path.container).read_bytes() == b"12"


def test_what_is_passed_over(write, monkeypatch):
    monkeypatch.setattr(parquet_pictures, "MAX_PACKED_BYTES", 10)
    reading = read_folder(
        write(image=[b"1", None, b"", b"x" * 11, b"2", b"3"], text=["a cat", "x", "x", "x", None, " "])
    )
    assert len(reading.samples) == 1
    assert {reason: [Path(name).name for name in names] for reason, names in reading.passed_over.items() if names} == {
        "no bytes of a picture": ["row-000001", "row-000002"],
        "more than 256 MiB": ["row-000003"],
        "no caption in the same file": ["row-000004"],
        "an empty caption in the same file": ["row-000005"],
    }


def test_columns_are_found_or_named(write):
    data = write(jpg=[b"1"], raw=[b"2"], label=[7], txt=["a cat"], said=["no"])
    assert contents_of(read_folder(write(data=[b"1"], label=[7], title=["a cat"]))) == {
        "x.parquet/row-000000": (b"1", ("a cat",))
    }
    write(photo=[b"1"], raw=[b"2"], txt=["a cat"], said=["no"])
    assert contents_of(read_folder(data)) == {"x.parquet/row-000000": (b"1", ("a cat",))}
    named = read_folder(data, options=ReaderOptions(image_column="raw", caption_column="said"))
    assert contents_of(named) == {"x.parquet/row-000000": (b"2", ("no",))}


def test_reading_at_random_is_reading_in_order(write, tiny_picture_folder):
    pictures = tiny_picture_folder(count=9)
    paths = sorted(path for path in pictures.iterdir() if path.suffix != ".txt")
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    samples = read_folder(write(image=images, text=[path.stem for path in paths])).samples
    assert [each.captions for each in samples] == [(path.stem,) for path in paths]
    for row in random.Random(1).sample(range(9), 9):
        assert open_image(samples[row].image_path).tobytes() == open_image(paths[row]).tobytes()
    # Rows in another order are the same samples.
    order = random.Random(2).sample(range(9), 9)
    write(image=[images[row] for row in order], text=[paths[row].stem for row in order])
    again = read_folder(pictures.parent / "data").samples
    assert [(each.image_path.path, each.captions) for each in again] == [
        (each.image_path.path, each.captions) for each in samples
    ]


def test_tables_whose_names_tell_a_split(write):
    for number, name in enumerate(["train-00000-of-00002", "train-00001-of-00002", "validation-0", "test-0"]):
        data = write(f"data/{name}.parquet", image=[b"%d" % number], text=["a cat"])
    write("stats.parquet", column=["text"], count=[3])
    reading = read_folder(data)
    assert reading.told == "Parquet tables, 4 files, divided by their names: 2 train, 1 dev, 1 test"
    assert "1 with no column of pictures" in reading.skipped
    one = read_folder(data, manifest_file="data/test-0.parquet")
    assert (one.told, one.split, len(one.samples)) == ("Parquet tables, data/test-0.parquet", {}, 1)


def test_metadata_that_only_names_pictures_is_an_image_folder(write):
    data = write("metadata.parquet", file_name=["a.jpg"], text=["a cat"])
    (data / "a.jpg").touch()
    reading = read_folder(data)
    assert (reading.caption_format, reading.others) == ("imagefolder", ())
    write("metadata.parquet", file_name=[b"a.jpg"], text=["a cat"])
    with pytest.raises(DatasetError, match="No picture's name"):
        read_folder(data)
    write("metadata.parquet", image=[b"1"], text=["a cat"])
    reading = read_folder(data)
    assert (reading.caption_format, reading.others) == ("parquet", ())


class TestUnpacking:
    def test_the_second_start_reads_no_table(self, write, monkeypatch):
        data = write(**TINY)
        before = read_folder(data)
        monkeypatch.setattr(parquet_pictures, "read_parquet_pictures", None)
        monkeypatch.setattr(parquet_pictures, "picture_bytes_in", None)
        assert read_folder(data).samples == before.samples

    def test_a_changed_table_is_unpacked_anew_and_the_old_state_removed(self, write, cache):
        data = write(**TINY)
        old = read_folder(data).samples[0].image_path
        write(image=[b"another"], text=["a cow"])
        assert contents_of(read_folder(data)) == {"x.parquet/row-000000": (b"another", ("a cow",))}
        assert len([path for path in cache.rglob("*") if path.is_file()]) == 2
        with pytest.raises(DatasetError, match="does not exist"), open_picture_bytes(old):
            pass

    def test_other_columns_are_another_state(self, write):
        data = write(image=[b"1"], text=["a cat"], said=["a dog"])
        read_folder(data)
        assert read_folder(data, options=ReaderOptions(caption_column="said")).samples[0].captions == ("a dog",)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda index: index.write_text(""),
            lambda index: index.write_text("[]"),
            lambda index: index.write_text(index.read_text().replace("[5,", "[9,")),
            lambda index: index.write_text(index.read_text().replace("[5, 6]", "[-5, 16]")),
            lambda index: index.write_text(index.read_text().replace('["a dog"]', "3")),
            lambda index: index.write_text(json.dumps(json.loads(index.read_text()) | {"captions": []})),
            lambda index: index.with_suffix(".pictures").write_bytes(b"short"),
            lambda index: index.with_suffix(".pictures").unlink(),
        ],
    )
    def test_a_damaged_cache_is_made_again(self, write, cache, damage):
        data = write(**TINY)
        wanted = contents_of(read_folder(data))
        (index,) = cache.rglob("*.json")
        damage(index)
        assert contents_of(read_folder(data)) == wanted

    def test_no_room(self, write, cache, monkeypatch):
        data = write(**TINY)
        usage = shutil.disk_usage(data)._replace(total=10**13, free=10**9)
        monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
        with pytest.raises(DatasetError, match=r"no room .* take 0\.0 GB, .*cache.* has 0\.0 GB to spare.*PIXEL_LLM_"):
            read_folder(data)
        assert [path for path in cache.rglob("*") if path.is_file()] == []

    def test_room_that_runs_out_on_the_way(self, write, cache, monkeypatch):
        data, usages = write(**TINY), [10**13, 10**8]
        usage = shutil.disk_usage(data)
        monkeypatch.setattr(unpacked, "_BYTES_BETWEEN_LOOKS", 6)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(total=10**13, free=usages.pop(0)))
        with pytest.raises(DatasetError, match="no room to unpack"):
            read_folder(data)
        assert [path for path in cache.rglob("*") if path.is_file()] == []

    def test_a_cache_that_cannot_be_written(self, write, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("PIXEL_LLM_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(DatasetError, match=r"cannot be unpacked into .*Not a directory\. Set PIXEL_LLM_CACHE"):
            read_folder(write(**TINY))

    def test_a_table_that_changes_while_it_is_read(self, write, cache, monkeypatch):
        data = write(**TINY)
        read = parquet_pictures.read_parquet_pictures

        def changing(path, options):
            yield from read(path, options)
            os.utime(path, ns=(0, 0))

        monkeypatch.setattr(parquet_pictures, "read_parquet_pictures", changing)
        with pytest.raises(DatasetError, match=r"x\.parquet was changed while it was read"):
            read_folder(data)
        assert [path for path in cache.rglob("*") if path.is_file()] == []

    def test_what_a_process_left_that_is_gone(self, write, cache):
        data = write(**TINY)
        read_folder(data)
        (index,) = cache.rglob("*.json")
        old, young = index.with_suffix(".1.partial"), index.with_suffix(".2.partial")
        for path in (old, young):
            path.touch()
        os.utime(old, (0, 0))
        index.unlink()
        read_folder(data)
        assert (old.exists(), young.exists()) == (False, True)


@needs_pyarrow
def test_few_rows_are_in_memory_at_once(write, monkeypatch):
    monkeypatch.setattr(parquet_table, "_BATCH_BYTES", 3000)
    sizes = []
    data = write(image=[bytes([number]) * 1000 for number in range(20)], text=["x"] * 20, rows_a_group=20)
    from pyarrow import parquet

    plain = parquet.ParquetFile.iter_batches

    def measured(*args, **named):
        for batch in plain(*args, **named):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", measured)
    assert len(read_folder(data).samples) == 20
    assert max(sizes) < 20


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"file": ["a.jpg"], "text": ["x"]}, r"no column of pictures: .*found 'file' \(string\), 'text' .*call it m"),
        ({"image": [{"path": "a.jpg"}], "text": ["x"]}, r"no column of pictures: .*found 'image' \(struct<path"),
        ({"image": [b"1"], "label": [3]}, r"no column of captions in text: .*found none.*--caption-column"),
        ({"image": [b"1"], "was": ["x"]}, r"no column of captions in text: .*found 'was'\. Say which it is"),
        ({"one": [b"1"], "two": [b"1"], "text": ["x"]}, r"no column of pictures in bytes: .*found 'one', 'two'"),
        ({"image": [None, b""], "text": ["x", "x"]}, r"No captioned pictures .*found 2 with no bytes of a picture"),
        ({"image": [b"1"], "text": [["x", None]]}, r"No caption in .*row 0: expected a string .* null in it"),
    ],
)  # fmt: skip
def test_damaged_values(write, columns, message):
    import pyarrow

    if columns.get("image") == [None, b""]:
        columns = {**columns, "image": pyarrow.array([None, b""], pyarrow.binary())}
    with pytest.raises(DatasetError, match=message):
        read_folder(write(**columns))


@pytest.mark.parametrize("keep", [0, 4, 40, -4, -100])
def test_damaged_files(write, keep):
    path = write(**TINY) / "x.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match=r"x\.parquet cannot be read as Parquet"):
        read_folder(path.parent)


def test_one_damaged_table_stops_all(write):
    data = write(**TINY)
    (data / "y.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DatasetError, match=r"y\.parquet cannot be read as Parquet"):
        read_folder(data)


def test_a_name_no_table_has(write):
    data = write(**TINY)
    with pytest.raises(DatasetError, match=r"no column of pictures in bytes: expected 'imag'.*'image'"):
        read_folder(data, options=ReaderOptions(image_column="imag"))


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder, and the bytes of a small table."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
    from pyarrow import parquet

    data = tmp_path_factory.mktemp("flipped")
    images = [{"bytes": bytes([number]) * 50, "path": f"{number}.jpg"} for number in range(3)]
    parquet.write_table(pyarrow.table({"image": images, "text": ["a cat", "a dog", "a cow"]}), data / "x.parquet")
    return data, (data / "x.parquet").read_bytes()


@settings(max_examples=150)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_byte_is_wrong(flipped, flips):
    """Samples inside what was unpacked, or a DatasetError."""
    data, content = flipped
    changed = bytearray(content)
    for place, value in flips:
        changed[int(place * len(content))] = value
    (data / "x.parquet").write_bytes(changed)
    try:
        reading = read_folder(data)
    except DatasetError as error:
        str(error).encode()
        return
    for sample in reading.samples:
        picture = sample.image_path
        assert Path(picture.container).is_relative_to(cache_folder())
        assert 0 <= picture.offset <= picture.offset + picture.size <= Path(picture.container).stat().st_size
        assert Path(picture.path).is_relative_to(data / "x.parquet")
        assert ".." not in Path(picture.path).parts
        assert sample.captions


def test_a_file_that_contradicts_itself_does_not_end_the_process(tmp_path):
    """Found by the fuzz: to ask such a file for the size of one column makes pyarrow abort."""
    pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(Path(__file__).with_name("damaged") / "contradicts_itself.parquet", data)
    code = (
        "from systems.pixel_llm.data.samples import read_folder\n"
        "from systems.pixel_llm.errors import DatasetError\n"
        f"try: print(len(read_folder({str(data)!r}, 'parquet').samples))\n"
        "except DatasetError as error: print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


@pytest.mark.slow  # takes two gigabytes for a moment
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_a_damaged_page_claimed_is_given_back(tmp_path):
    """Found by the fuzz: pyarrow takes what a page claims, finds less, and keeps the memory for itself."""
    pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(Path(__file__).with_name("damaged") / "claims_two_gigabytes.parquet", data)
    code = (
        "from pathlib import Path\n"
        "from systems.pixel_llm.data.samples import read_folder\n"
        "from systems.pixel_llm.errors import DatasetError\n"
        f"try: read_folder({str(data)!r}, 'parquet')\n"
        "except DatasetError: pass\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line for line in lines if line.startswith('VmRSS')).split()[1])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 400_000
