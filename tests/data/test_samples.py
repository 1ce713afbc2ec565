import json
import logging
import os
from pathlib import Path

import pytest

from systems.pixel_llm.data.samples import MAX_TEXT_BYTES, Sample, read_samples
from systems.pixel_llm.errors import ConfigError, DatasetError

SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LOGGER = "systems.pixel_llm.data.samples"


def write_pair(folder: Path, name: str, caption: str | bytes) -> None:
    """A picture's name and its caption file; reading samples opens no picture."""
    (folder / name).touch()
    data = caption if isinstance(caption, bytes) else caption.encode()
    (folder / name).with_suffix(".txt").write_bytes(data)


def write_manifest(folder: Path, content: object, *, pictures: tuple[str, ...] = ()) -> Path:
    for name in pictures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    path = folder / "manifest.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def captions_by_name(samples: list[Sample]) -> dict[str, tuple[str, ...]]:
    return {sample.image_path.name: sample.captions for sample in samples}


class TestText:
    def test_pairs_are_sorted_by_name_and_captions_are_one_clean_line(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "b.png", "  a blue\n\tcircle \r\n")
        write_pair(tmp_path, "a.jpg", "a red square")
        write_pair(tmp_path, "C.WEBP", "a green\x1b\x00 triangle")
        samples = read_samples(tmp_path, "text")
        assert [sample.image_path for sample in samples] == [tmp_path / name for name in ("C.WEBP", "a.jpg", "b.png")]
        assert [sample.captions for sample in samples] == [("a green triangle",), ("a red square",), ("a blue circle",)]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_unicode_encodings_give_the_same_caption(self, tmp_path: Path, encoding: str) -> None:
        write_pair(tmp_path, "a.jpg", "ein grünes Dreieck 🔺".encode(encoding))
        assert read_samples(tmp_path, "text")[0].captions == ("ein grünes Dreieck 🔺",)

    def test_other_encodings_are_refused_with_the_place(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a.jpg", "ein grünes Dreieck".encode("latin-1"))
        with pytest.raises(DatasetError, match=r"a\.txt is not text in UTF-8: .* at byte 6\. Save it as UTF-8"):
            read_samples(tmp_path, "text")

    def test_two_pictures_of_one_stem_share_the_caption(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a.jpg", "a red square")
        (tmp_path / "a.PNG").touch()
        assert captions_by_name(read_samples(tmp_path, "text")) == {
            "a.PNG": ("a red square",),
            "a.jpg": ("a red square",),
        }

    def test_two_caption_files_of_one_picture_are_refused(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a.jpg", "a red square")
        (tmp_path / "a.TXT").write_text("a blue circle")
        with pytest.raises(DatasetError, match=r"a\.jpg has more than one caption file: a\.T"):
            read_samples(tmp_path, "text")

    def test_accents_stored_apart_match(self, tmp_path: Path) -> None:
        (tmp_path / "caf\u00e9.jpg").touch()
        (tmp_path / "cafe\u0301.txt").write_text("a cup")
        assert read_samples(tmp_path, "text")[0].captions == ("a cup",)

    def test_pictures_without_a_caption_are_counted_and_named_in_one_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_pair(tmp_path, "good.jpg", "a red square")
        write_pair(tmp_path, "blank.jpg", " \n")
        for number in range(5):
            (tmp_path / f"lone{number}.jpg").touch()
        with caplog.at_level(logging.WARNING, logger=LOGGER):
            assert len(read_samples(tmp_path, "text")) == 1
        (record,) = caplog.records
        assert record.name == LOGGER
        assert (
            "5 with no .txt or .caption file beside them (lone0.jpg, lone1.jpg, lone2.jpg, ...)" in record.getMessage()
        )
        assert "1 with an empty caption (blank.jpg)" in record.getMessage()

    def test_a_complete_folder_gives_no_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_pair(tmp_path, "a.jpg", "a red square")
        read_samples(tmp_path, "text")
        assert not caplog.records

    def test_what_is_no_regular_file_is_no_picture(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a.jpg", "a red square")
        (tmp_path / "folder.jpg").mkdir()
        (tmp_path / "folder.txt").write_text("a folder")
        os.mkfifo(tmp_path / "pipe.jpg")
        os.mkfifo(tmp_path / "pipe.txt")
        assert captions_by_name(read_samples(tmp_path, "text")) == {"a.jpg": ("a red square",)}

    def test_huge_caption_files_are_refused_unread(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a.jpg", b"x" * (MAX_TEXT_BYTES + 1))
        with pytest.raises(DatasetError, match=r"a\.txt is too large: 1,048,577 bytes"):
            read_samples(tmp_path, "text")

    def test_links_out_of_the_folder_are_refused_and_links_inside_are_not(self, tmp_path: Path) -> None:
        data, outside = tmp_path / "data", tmp_path / "secret.txt"
        data.mkdir()
        write_pair(data, "a.jpg", "a red square")
        (data / "b.jpg").symlink_to(data / "a.jpg")
        (data / "b.txt").symlink_to("a.txt")
        assert len(read_samples(data, "text")) == 2
        outside.write_text("a secret")
        (data / "b.txt").unlink()
        (data / "b.txt").symlink_to(outside)
        with pytest.raises(DatasetError, match=r"b\.txt is a symbolic link that leads out of the data folder"):
            read_samples(data, "text")

    def test_names_that_are_no_text_are_read_and_shown_escaped(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        odd = os.fsdecode(b"odd\xff.jpg")
        write_pair(tmp_path, odd, "an odd name")
        (tmp_path / os.fsdecode(b"lone\xfe\n.jpg")).touch()
        assert captions_by_name(read_samples(tmp_path, "text")) == {odd: ("an odd name",)}
        message = caplog.records[0].getMessage()
        assert r"'lone\udcfe\n.jpg'" in message
        message.encode()


class TestNothingToRead:
    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"nowhere does not exist .*Give the folder that holds the pictures"):
            read_samples(tmp_path / "nowhere", "text")
        with pytest.raises(DatasetError, match="nowhere does not exist"):
            read_samples(tmp_path / "nowhere", "json")

    def test_file_instead_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "cat.jpg").touch()
        with pytest.raises(DatasetError, match=r"cat\.jpg is a file\. Give the folder"):
            read_samples(tmp_path / "cat.jpg", "text")

    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"(?s)No captioned pictures in .*cat\.txt.*Found there: nothing of use"):
            read_samples(tmp_path, "text")

    def test_folder_with_a_manifest_says_so(self, tmp_path: Path) -> None:
        write_manifest(tmp_path, {"a.jpg": "a red square"}, pictures=("a.jpg",))
        with pytest.raises(DatasetError, match=r'Found manifest\.json there: .*caption_format="auto"'):
            read_samples(tmp_path, "text")

    def test_only_empty_captions(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a.jpg", "")
        with pytest.raises(DatasetError, match=r"All 1 caption files are empty\. Write a caption"):
            read_samples(tmp_path, "text")

    def test_missing_manifest(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a.jpg", "a red square")
        with pytest.raises(DatasetError, match=r'manifest\.json does not exist.*use caption_format="text"'):
            read_samples(tmp_path, "json")

    def test_unknown_format_names_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"not 'jsn'\. Did you mean 'json'\?"):
            read_samples(tmp_path, "jsn")

    def test_manifest_with_the_text_format_is_a_clash(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"manifest_file='m\.json'.*caption_format='json'"):
            read_samples(tmp_path, "text", "m.json")


class TestManifest:
    def test_values_are_a_caption_or_a_list_of_captions(self, tmp_path: Path) -> None:
        write_manifest(
            tmp_path, {"b.png": ["one ", " two\nlines", ""], "a.jpg": "a red square"}, pictures=("a.jpg", "b.png")
        )
        samples = read_samples(tmp_path, "json")
        assert samples == [
            Sample(tmp_path / "a.jpg", ("a red square",)),
            Sample(tmp_path / "b.png", ("one", "two lines")),
        ]

    def test_names_are_found_beside_the_manifest_first_then_in_the_folder_then_in_the_one_below(
        self, tmp_path: Path
    ) -> None:
        data, notes = tmp_path / "data", tmp_path / "notes"
        for name in ("data/a.jpg", "data/b.jpg", "data/images/c.jpg", "notes/a.jpg"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        manifest = write_manifest(notes, {"a.jpg": "a", "b.jpg": "b", "c.jpg": "c"})
        paths = [sample.image_path for sample in read_samples(data, "json", manifest)]
        assert paths == [notes / "a.jpg", data / "b.jpg", data / "images" / "c.jpg"]

    def test_folders_that_both_hold_the_names_are_not_guessed_between(self, tmp_path: Path) -> None:
        write_manifest(tmp_path, {"a.jpg": "a"}, pictures=("one/a.jpg", "two/a.jpg"))
        with pytest.raises(DatasetError, match="None of the 1 pictures"):
            read_samples(tmp_path, "json")

    def test_manifest_name_may_be_relative_to_the_data_folder(self, tmp_path: Path) -> None:
        write_manifest(tmp_path, {"a.jpg": "a"}, pictures=("a.jpg",)).rename(tmp_path / "train.json")
        assert len(read_samples(tmp_path, "json", "train.json")) == 1

    def test_manifest_in_a_folder_of_its_own_may_point_back_into_the_data(self, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        (tmp_path / "a.jpg").touch()
        manifest = write_manifest(tmp_path / "notes", {"../a.jpg": "a"})
        assert read_samples(tmp_path, "json", manifest)[0].image_path == tmp_path / "a.jpg"

    def test_missing_pictures_are_counted_and_named(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        names = {f"gone{number}.jpg": "x" for number in range(4)} | {"long" * 99 + ".jpg": "x", "blank.jpg": " "}
        write_manifest(tmp_path, {"a.jpg": "a", **names}, pictures=("a.jpg", "blank.jpg"))
        assert captions_by_name(read_samples(tmp_path, "json")) == {"a.jpg": ("a",)}
        (record,) = caplog.records
        assert "5 with no such picture (gone0.jpg, gone1.jpg, gone2.jpg, ...)" in record.getMessage()
        assert "1 with an empty caption (blank.jpg)" in record.getMessage()

    def test_no_picture_left_is_an_error(self, tmp_path: Path) -> None:
        write_manifest(tmp_path, {"a.jpg": "a", "b.jpg": "b"})
        with pytest.raises(DatasetError, match=r"(?s)None of the 2 pictures .* is there \(a\.jpg, b\.jpg\).*Correct"):
            read_samples(tmp_path, "json")

    @pytest.mark.parametrize("name", ["../secret.jpg", "sub/../../secret.jpg", "../data2/a.jpg", "../gone.jpg"])
    def test_names_that_leave_the_folder_are_refused(self, tmp_path: Path, name: str) -> None:
        data = tmp_path / "data"
        (tmp_path / "data2").mkdir()
        for outside in ("secret.jpg", "data2/a.jpg"):
            (tmp_path / outside).touch()
        data.mkdir()
        write_manifest(data, {"a.jpg": "a", name: "x"}, pictures=("a.jpg",))
        with pytest.raises(DatasetError, match=r"(?s)manifest\.json leaves the data folder") as caught:
            read_samples(data, "json")
        assert repr(name) in str(caught.value)

    @pytest.mark.parametrize("name", ["/etc/passwd", "C:\\pictures\\a.jpg", "\\\\server\\a.jpg"])
    def test_absolute_names_are_refused(self, tmp_path: Path, name: str) -> None:
        write_manifest(tmp_path, {name: "x"})
        with pytest.raises(DatasetError, match="is absolute"):
            read_samples(tmp_path, "json")

    @pytest.mark.parametrize("name", ["a\0.jpg", "a\ud800.jpg"])
    def test_impossible_names_are_refused(self, tmp_path: Path, name: str) -> None:
        write_manifest(tmp_path, {name: "x"})
        with pytest.raises(DatasetError, match="cannot be a file name"):
            read_samples(tmp_path, "json")

    def test_links_out_of_the_folder_are_refused(self, tmp_path: Path) -> None:
        data, outside = tmp_path / "data", tmp_path / "outside"
        data.mkdir()
        outside.mkdir()
        (outside / "a.jpg").touch()
        (data / "link.jpg").symlink_to(outside / "a.jpg")
        write_manifest(data, {"link.jpg": "x"})
        with pytest.raises(DatasetError, match=r"link\.jpg is a symbolic link that leads out"):
            read_samples(data, "json")
        (data / "folder").symlink_to(outside)
        write_manifest(data, {"folder/a.jpg": "x"})
        with pytest.raises(DatasetError, match="leaves the data folder"):
            read_samples(data, "json")

    def test_links_in_a_circle_and_folders_are_missing_pictures(self, tmp_path: Path) -> None:
        write_manifest(tmp_path, {"a.jpg": "a", "loop.jpg": "x", "folder.jpg": "x"}, pictures=("a.jpg",))
        (tmp_path / "loop.jpg").symlink_to("loop.jpg")
        (tmp_path / "folder.jpg").mkdir()
        assert captions_by_name(read_samples(tmp_path, "json")) == {"a.jpg": ("a",)}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"a.jpg": "a",\n "b.jpg" "b"}', r"not valid JSON: Expecting ':' delimiter at line 2, column 10"),
            ('["a.jpg"]', r"must be a JSON object .* found a list"),
            ("{}", r"is empty\. It must map"),
            ('{"a.jpg": 7}', r"No caption in .*manifest\.json at the key 'a\.jpg': .* found a number"),
            ('{"a.jpg": NaN}', r"No caption in .*manifest\.json at the key 'a\.jpg': .* found a number"),
            ('{"a.jpg": null}', r"No caption in .*manifest\.json at the key 'a\.jpg': .* found null"),
            ('{"images": [{"id": 1}]}', r"at the key 'images': .* found a list with an object in it"),
            ('{"a.jpg": "a", "a.jpg": "b"}', r"has the key 'a\.jpg' twice"),
            ('{"a.jpg": "half \\ud800"}', r"Half a character .* at the key 'a\.jpg'"),
            ("[" * 100_000, r"cannot be read as JSON"),
            ('{"a.jpg": ' + "9" * 5000 + "}", r"cannot be read as JSON|found a number"),
        ],
    )
    def test_what_is_no_manifest_is_refused_with_the_place(self, tmp_path: Path, content: str, message: str) -> None:
        write_manifest(tmp_path, content, pictures=("a.jpg",))
        with pytest.raises(DatasetError, match=message):
            read_samples(tmp_path, "json")

    def test_byte_order_mark_is_accepted(self, tmp_path: Path) -> None:
        write_manifest(tmp_path, '\ufeff{"a.jpg": "a"}', pictures=("a.jpg",))
        assert len(read_samples(tmp_path, "json")) == 1


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs ../shared/data beside the repository")
class TestRealData:
    def test_icons(self) -> None:
        samples = read_samples(SHARED_DATA / "emoji_noto", "json")
        assert len(samples) == 2574
        assert samples[0].captions == ("copyright",)

    @pytest.mark.parametrize(("manifest", "count"), [("train.json", 3000), ("dev.json", 250)])
    def test_photographs_with_five_captions(self, manifest: str, count: int) -> None:
        folder = SHARED_DATA / "flickr8k_part"
        samples = read_samples(folder, "json", folder / manifest)
        assert len(samples) == count
        assert {len(sample.captions) for sample in samples} == {5}
