"""Captions and manifests as they arrive: each case with what becomes of it.

A case is a folder {name: content} and either the captions that are read from it, or the words of the error. Where
something is passed over, the words of the warning stand beside the captions.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from systems.pixel_llm.data.formats import find_format
from systems.pixel_llm.data.samples import MAX_CAPTION_CHARACTERS, MAX_TEXT_BYTES, Reading, read_folder
from systems.pixel_llm.errors import DatasetError

A = {"a.jpg": None}
AB = {"a.jpg": None, "b.jpg": None}


def manifest(content: Any, encoding: str = "utf-8") -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    return {"manifest.json": text.encode(encoding, "surrogatepass")}


def write(folder: Path, contents: dict[str, Any]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content or b"")
    return folder


def captions(reading: Reading) -> dict[str, list[str]]:
    return {
        sample.image_path.relative_to(reading.dataset_dir).as_posix(): list(sample.captions)
        for sample in reading.samples
    }


LOADS: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "UTF-8 mark in a .txt": (A | {"a.txt": b"\xef\xbb\xbfa cat"}, {"a.jpg": ["a cat"]}),
    "UTF-8 mark in a manifest": (A | manifest({"a.jpg": "a cat"}, "utf-8-sig"), {"a.jpg": ["a cat"]}),
    "UTF-16 in a .txt": (A | {"a.txt": "ein grüner Hügel".encode("utf-16")}, {"a.jpg": ["ein grüner Hügel"]}),
    "UTF-16 in a manifest": (A | manifest({"a.jpg": "a hill"}, "utf-16"), {"a.jpg": ["a hill"]}),
    "NUL and control characters": (A | {"a.txt": b"a\0cat\x07\x7f sits"}, {"a.jpg": ["a cat sits"]}),
    "terminal escapes": (A | manifest({"a.jpg": "\x1b[31ma\x9bcat"}), {"a.jpg": ["[31ma cat"]}),
    "only an emoji": (A | {"a.txt": "🙂"}, {"a.jpg": ["🙂"]}),
    "joined emoji": (A | {"a.txt": "👩\u200d👩\u200d👧"}, {"a.jpg": ["👩\u200d👩\u200d👧"]}),
    "right to left": (A | {"a.txt": "حصان أحمر"}, {"a.jpg": ["حصان أحمر"]}),
    "joiners alone": (A | {"a.txt": "\u200d\u200d"}, {"a.jpg": ["\u200d\u200d"]}),
    "a mark of UTF-8 within": (A | {"a.txt": "a\ufeffcat"}, {"a.jpg": ["a\ufeffcat"]}),
    "as long as a caption may be": (A | {"a.txt": "a" * 100_000}, {"a.jpg": ["a" * 100_000]}),
    "combining marks alone": (A | {"a.txt": "\u0301\u0302"}, {"a.jpg": ["\u0301\u0302"]}),
    "a list of captions": (A | manifest({"a.jpg": ["a cat", " one\ncat"]}), {"a.jpg": ["a cat", "one cat"]}),
    "x.JPG and x.jpg": ({"a.JPG": None} | manifest({"a.jpg": "a cat"}), {"a.JPG": ["a cat"]}),
    "accents stored apart": ({"e\u0301.jpg": None} | manifest({"\u00e9.jpg": "e"}), {"e\u0301.jpg": ["e"]}),
    "accents stored apart beside a picture": ({"e\u0301.jpg": None, "\u00e9.txt": "e"}, {"e\u0301.jpg": ["e"]}),
    "one caption of two pictures": (
        {"a.jpg": None, "a.png": None, "a.txt": "a cat"},
        {"a.jpg": ["a cat"], "a.png": ["a cat"]},
    ),
    "one sample": (A | {"a.txt": "a cat"}, {"a.jpg": ["a cat"]}),
    "a name through folders that stays inside": (
        {"sub/a.jpg": None} | manifest({"sub/../sub/./a.jpg": "a cat"}),
        {"sub/a.jpg": ["a cat"]},
    ),
}

PASSED_OVER: dict[str, tuple[dict[str, Any], dict[str, list[str]], str]] = {
    "a missing picture": (
        A | manifest({"a.jpg": "a", "gone.jpg": "x"}),
        {"a.jpg": ["a"]},
        "1 with no such picture (gone.jpg)",
    ),
    "a picture without a caption": (
        AB | {"a.txt": "a"},
        {"a.jpg": ["a"]},
        "1 with no .txt or .caption file beside them (b.jpg)",
    ),
    "a caption without a picture": (
        A | {"a.txt": "a", "b.txt": "b"},
        {"a.jpg": ["a"]},
        "1 with captions but no picture of that name (b.txt)",
    ),
    "an empty caption": (AB | {"a.txt": "a", "b.txt": ""}, {"a.jpg": ["a"]}, "1 with an empty caption (b.jpg)"),
    "white space": (AB | manifest({"a.jpg": "a", "b.jpg": " \t\u3000"}), {"a.jpg": ["a"]}, "an empty caption (b.jpg)"),
    "control characters alone": (
        AB | {"a.txt": "a", "b.txt": b"\0\x1b\0"},
        {"a.jpg": ["a"]},
        "an empty caption (b.jpg)",
    ),
    "an empty list": (AB | manifest({"a.jpg": "a", "b.jpg": []}), {"a.jpg": ["a"]}, "an empty caption (b.jpg)"),
    "a name in a user's home": (
        A | manifest({"a.jpg": "a", "~/b.jpg": "b"}),
        {"a.jpg": ["a"]},
        "no such picture (~/b.jpg)",
    ),
    "an address": (
        A | manifest({"a.jpg": "a", "http://localhost/b.jpg": "b"}),
        {"a.jpg": ["a"]},
        "no such picture (http://localhost/b.jpg)",
    ),
    "a name that is a folder": (
        A | {"b.jpg/c.txt": ""} | manifest({"a.jpg": "a", "b.jpg": "b"}),
        {"a.jpg": ["a"]},
        "no such",
    ),
    "a name of endless accents": (
        A | manifest({"a.jpg": "a", "e" + "\u0301\u0327" * 500_000 + ".jpg": "b"}),
        {"a.jpg": ["a"]},
        "1 with no such picture",
    ),
    "a name of endless folders": (
        A | manifest({"a.jpg": "a", "x/" * 500_000 + "b.jpg": "b"}),
        {"a.jpg": ["a"]},
        "1 with no such picture",
    ),
    "a name too long for a file": (
        A | manifest({"a.jpg": "a", "x" * 5000: "b"}),
        {"a.jpg": ["a"]},
        "1 with no such picture",
    ),
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "latin-1 in a .txt": (A | {"a.txt": "grün".encode("latin-1")}, r"a\.txt is not text in UTF-8: .* at byte 2"),
    "latin-1 in a manifest": (A | manifest('{"a.jpg": "grün"}', "latin-1"), r"manifest\.json is not .* at byte 13"),
    "UTF-16 without its mark": (
        A | {"a.txt": "a hill".encode("utf-16-le")},
        r"a\.txt .* NUL beside every letter.*UTF-8",
    ),
    "UTF-32": (A | {"a.txt": "a hill".encode("utf-32")}, r"a\.txt .* NUL beside every letter.*Save it as UTF-8"),
    "UTF-16 without its mark in a manifest": (
        A | manifest({"a.jpg": "a"}, "utf-16-be"),
        r"manifest\.json .* NUL beside every letter",
    ),
    "bytes of a picture": (A | {"a.txt": b"\xff\xd8\xff\xe0\0\x10JFIF"}, r"a\.txt is not text in UTF-8: .* at byte 0"),
    "half a UTF-16": (A | {"a.txt": b"\xff\xfea\0\0"}, r"a\.txt is not text in UTF-8: truncated data at byte 4"),
    "a lone surrogate": (A | manifest('{"a.jpg": "\\ud800"}'), r"Half a character .* at the key 'a\.jpg'"),
    "a lone surrogate in a name": (A | manifest('{"\\udfff.jpg": "a"}'), r"'\\udfff\.jpg' .* cannot be a file name"),
    "nothing but empty captions": (A | {"a.txt": " "}, r"All 1 caption files are empty"),
    "a caption of 10 MB in a .txt": (A | {"a.txt": "a " * 5_000_000}, r"a\.txt is too large: 10,000,000 bytes"),
    "a caption of 10 MB in a manifest": (A | manifest({"a.jpg": "a " * 5_000_000}), r"too long: 10,000,000 characters"),
    "a word of 1 MB": (A | {"a.txt": "a" * MAX_TEXT_BYTES}, rf"too long: .*at most {MAX_CAPTION_CHARACTERS:,}"),
    "a key given twice": (A | manifest('{"a.jpg": "a", "a.jpg": "b"}'), r"has the key 'a\.jpg' twice"),
    "NaN": (A | manifest('{"a.jpg": NaN}'), r"at the key 'a\.jpg': .*found a number"),
    "1e999": (A | manifest('{"a.jpg": 1e999}'), r"at the key 'a\.jpg': .*found a number"),
    "-0": (A | manifest('{"a.jpg": -0}'), r"at the key 'a\.jpg': .*found a number"),
    "5000 digits": (A | manifest('{"a.jpg": ' + "9" * 5000 + "}"), r"cannot be read as JSON"),
    "a nested value": (A | manifest({"a.jpg": {"text": "a"}}), r"at the key 'a\.jpg': .*found an object"),
    "a number in a list": (A | manifest({"a.jpg": ["a", 7]}), r"at the key 'a\.jpg': .*a list with a number in it"),
    "null": (A | manifest({"a.jpg": None}), r"at the key 'a\.jpg': .*found null"),
    "the wrong top level": (A | manifest(["a.jpg"]), r"must be a JSON object .*found a list"),
    "100,000 brackets": (A | manifest("[" * 100_000), r"cannot be read as JSON"),
    "cut off": (A | manifest('{"a.jpg": "a", "b'), r"not valid JSON: .* at line 1, column 16"),
    "nothing in the file": (A | manifest(""), r"not valid JSON: Expecting value at line 1, column 1"),
    "two top levels": (A | manifest('{"a.jpg": "a"}\n{}'), r"not valid JSON: Extra data at line 2, column 1"),
    "a way out": (A | manifest({"../a.jpg": "a"}), r"'\.\./a\.jpg' .* leaves the data folder"),
    "a way out through a folder": (A | manifest({"x/../../a.jpg": "a"}), r"leaves the data folder"),
    "an absolute name": (A | manifest({"/etc/passwd": "a"}), r"'/etc/passwd' .* is absolute"),
    "a drive": (A | manifest({"C:\\a.jpg": "a"}), r"is absolute"),
    "a share": (A | manifest({"\\\\server\\a.jpg": "a"}), r"is absolute"),
    "NUL in a name": (A | manifest({"a\0.jpg": "a"}), r"cannot be a file name"),
    "a long name that is absolute": (A | manifest({"/" + "a" * 100_000: "a"}), r"'/aaa.*aaa\.\.\.' .* is absolute"),
    "a long name with an odd value": (
        A | manifest({"a" * 100_000: 7}),
        r"at the key 'aaa.*aaa\.\.\.': .*found a number",
    ),
    "a long key given twice": (
        A | manifest('{"%s": "a", "%s": "b"}' % (("k" * 100_000,) * 2)),
        r"'kkk.*k\.\.\.' twice",
    ),
    "a tab in what the table's reader says": (
        A | {"x.tsv": 'image\ttext\na.jpg\t"a"b\n'},
        r"x\.tsv cannot be .*'\\t' expected",
    ),
    "columns of control characters": (A | {"x.csv": "\x1b[31m,\0\n1,2\n"}, r"found '\\x1b\[31m', '\\x00'"),
    "columns without end": (
        A | {"x.csv": ",".join(f"{number:0100}" for number in range(900))},
        r"found '000.*\.\.\.', \.\.\.\. S",
    ),
    "keys without end": (
        A | {"x.jsonl": '{"image": "a.jpg", "text": "a"}\n' + json.dumps({str(n): 1 for n in range(90_000)})},
        r"line 2, lacks the key 'image'; it has '0', '1', .*, \.\.\.\. Add",
    ),
    "two files that a name could mean": (
        {"a.JPG": None, "a.Jpg": None} | manifest({"a.jpg": "a"}),
        r"a\.jpg could mean a\.JPG or a\.Jpg",
    ),
    "two captions of one picture": (A | {"a.txt": "a", "a.TXT": "b"}, r"more than one caption file"),
    "an empty folder": ({}, r"No captions found in .* Found there: nothing of use"),
    "all pictures missing": (manifest({"a.jpg": "a"}), r"None of the 1 pictures .* is there \(a\.jpg\)"),
}


@pytest.mark.parametrize("case", LOADS)
def test_what_loads(tmp_path: Path, case: str) -> None:
    contents, wanted = LOADS[case]
    reading = read_folder(write(tmp_path, contents))
    assert captions(reading) == wanted
    assert reading.skipped == ""


@pytest.mark.parametrize("case", PASSED_OVER)
def test_what_is_passed_over_counted_and_named(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    contents, wanted, words = PASSED_OVER[case]
    assert captions(read_folder(write(tmp_path, contents))) == wanted
    (record,) = caplog.records
    assert words in record.getMessage()


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path: Path, case: str) -> None:
    contents, words = REFUSED[case]
    with pytest.raises(DatasetError) as caught:
        read_folder(write(tmp_path, contents))
    message = str(caught.value)
    assert re.search(words, message)
    assert message.isprintable()  # nothing in a file reaches the terminal raw
    assert len(message) < 2000


class TestWhatIsNoFile:
    """Cases that need more than contents."""

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
    @pytest.mark.parametrize("name", ["b.jpg", "b.txt"])
    def test_folders_and_pipes(self, tmp_path: Path, make: Any, name: str) -> None:
        write(tmp_path, A | {"a.txt": "a"})
        make(tmp_path / name)
        assert captions(read_folder(tmp_path)) == {"a.jpg": ["a"]}

    def test_folders_and_pipes_that_a_manifest_names(self, tmp_path: Path) -> None:
        write(tmp_path, A | manifest({"a.jpg": "a", "b.jpg": "b", "c.jpg": "c"}))
        (tmp_path / "b.jpg").mkdir()
        os.mkfifo(tmp_path / "c.jpg")
        assert captions(read_folder(tmp_path)) == {"a.jpg": ["a"]}

    @pytest.mark.parametrize("contents", [{"a.txt": "a"}, manifest({"a.jpg": "a"})])
    def test_a_link_out(self, tmp_path: Path, contents: dict[str, Any]) -> None:
        data = tmp_path / "data"
        data.mkdir()
        write(data, contents)
        (tmp_path / "secret.jpg").touch()
        (data / "a.jpg").symlink_to(tmp_path / "secret.jpg")
        with pytest.raises(DatasetError, match=r"a\.jpg is a symbolic link that leads out"):
            read_folder(data)

    def test_a_manifest_that_a_link_brings_in_is_read_only_when_it_is_named(self, tmp_path: Path) -> None:
        data = write(tmp_path, {f"data/{name}": content for name, content in A.items()}) / "data"
        write(tmp_path, manifest({"a.jpg": "a"}))
        (data / "manifest.json").symlink_to(tmp_path / "manifest.json")
        with pytest.raises(DatasetError, match=r"manifest\.json is a symbolic link that leads out"):
            read_folder(data)
        with pytest.raises(DatasetError, match=r"manifest\.json is a symbolic link that leads out"):
            find_format(data)
        assert captions(read_folder(data, manifest_file="manifest.json")) == {"a.jpg": ["a"]}

    @pytest.mark.parametrize("contents", [{"b.txt": "b"}, manifest({"a.jpg": "a", "b.jpg": "b"})])
    def test_a_link_in_a_circle(self, tmp_path: Path, contents: dict[str, Any]) -> None:
        write(tmp_path, A | {"a.txt": "a"} | contents)
        (tmp_path / "b.jpg").symlink_to("b.jpg")
        reading = read_folder(tmp_path)
        assert captions(reading) == {"a.jpg": ["a"]}

    def test_a_name_that_is_no_text(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        odd = os.fsdecode(b"odd\xff.jpg")
        write(tmp_path, {odd: None, "odd.jpg": None, "odd.txt": "a"})
        assert captions(read_folder(tmp_path)) == {"odd.jpg": ["a"]}
        caplog.records[0].getMessage().encode()
