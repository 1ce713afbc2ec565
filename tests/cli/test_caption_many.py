"""`pixel-llm caption` on folders: each good picture exactly once, whatever is odd, bad, stopped or there already."""

import csv
import io
import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from systems.pixel_llm.cli import caption, caption_writers
from systems.pixel_llm.data.samples import read_samples
from systems.pixel_llm.inference import CaptionedPicture

FORMS = ["lines", "txt", "jsonl", "csv", "manifest"]
NO_TEXT = os.fsdecode(b"caf\xe9.png")


@pytest.fixture
def album(pictures, write_bad_pictures):
    """Nine good pictures in nested folders, one a link, and bad ones; `pictures` has captions beside its own."""
    names = ["1.png", "2.png", "10.png", "a b/x.png", "a b/tab\t.png", "a b/two\nlines.png", "grün/漢字.png", NO_TEXT]
    album = Path("album")
    for name, picture in zip(names, sorted(pictures.glob("*.png")), strict=False):
        (album / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, album / name)
    (album / "linked.png").symlink_to("1.png")
    (album / "a b/circle").symlink_to("..")
    (album / "notes.txt").write_text("no picture has this name\n")
    write_bad_pictures(album / "bad")
    return album


NUM_GOOD, NUM_BAD = 9, 4


def output_of(form):
    """The words that ask for a form."""
    file = {"lines": "out.txt", "jsonl": "out.jsonl", "csv": "out.csv", "manifest": "album/manifest.json"}
    return ["--as", form] + (["--output", file[form]] if form in file else [])


def names_in(form):
    """The pictures that have a caption, as often as they have one; their captions are no empty ones."""
    if form == "lines":
        rows = [line.split("\t") for line in Path("out.txt").read_text(encoding="utf-8").split("\n")[:-1]]
        found = [(name.encode().decode("unicode_escape") if "\\" in name else name, text) for name, text in rows]
    elif form == "txt":
        texts = [path for path in Path("album").rglob("*.txt") if path.name != "notes.txt"]
        found = [(str(path.with_suffix(".png")), path.read_text(encoding="utf-8").strip()) for path in texts]
    elif form == "jsonl":
        records = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
        found = [(record["image"], record["caption"]) for record in records]
    elif form == "csv":
        with Path("out.csv").open(encoding="utf-8", newline="") as file:
            found = [(row["image"].replace("\\udce9", "\udce9"), row["caption"]) for row in csv.DictReader(file)]
    else:
        content = json.loads(Path("album/manifest.json").read_text(encoding="utf-8"))
        found = [(f"album/{name}", text) for name, text in content.items()]
    assert all(text for _, text in found)
    return sorted(name for name, _ in found)


def good_pictures(form):
    good = [str(path) for path in Path("album").rglob("*.png") if "bad" not in str(path) and "circle" not in str(path)]
    if form == "manifest":
        good.remove(f"album/{NO_TEXT}")  # a manifest cannot hold it
    return sorted(good)


@pytest.fixture
def stopped_at_each_batch(monkeypatch):
    """Ctrl-C comes in the first batch with a good picture."""

    @contextmanager
    def stop_on_signals(request_stop, *, promise):
        received = []
        real = caption.caption_files

        def caption_files(*arguments, **settings):
            for outcomes in real(*arguments, **settings):
                if any(isinstance(each, CaptionedPicture) for each in outcomes):
                    received.append(signal.SIGINT)
                    request_stop()
                yield outcomes

        with monkeypatch.context() as patch:
            patch.setattr(caption, "caption_files", caption_files)
            yield received

    monkeypatch.setattr(caption, "stop_on_signals", stop_on_signals)


@pytest.mark.parametrize("form", FORMS)
def test_interrupted_at_each_batch_each_good_picture_is_captioned_once(
    pixel_llm, trained_run, album, stopped_at_each_batch, form
):
    command = ["caption", trained_run, "--num-beams", 1, "--batch-size", 3, *output_of(form), album]
    for batch in range(1, 10):
        ended = pixel_llm(command)
        if ended.status != 130:
            break
        assert len(names_in(form)) == len(set(names_in(form))) >= batch
        assert ("To go on, type the same command again." in ended.err) == (" left." in ended.err)
    assert ended.status == 1, "the bad ones alone are left"
    assert batch >= 4
    assert "0 captioned" in ended.err
    assert names_in(form) == good_pictures(form)


def test_bad_ones_are_listed_at_the_end_and_beside_the_output(pixel_llm, trained_run, album):
    command = ["caption", trained_run, album, "--as", "jsonl", "--output", "out.jsonl"]
    ended = pixel_llm(command)
    assert ended.status == 1
    assert "pixel-llm: 4 pictures could not be captioned:" in ended.err
    assert f"{NUM_GOOD} captioned, 4 bad." in ended.err
    listed = [line.split("\t") for line in Path("out.jsonl.bad").read_text(encoding="utf-8").splitlines()]
    assert sorted(Path(name).name for name, _ in listed) == [
        "bad_bomb.png", "bad_empty.png", "bad_text.jpg", "bad_truncated.jpg",
    ]  # fmt: skip
    shutil.copy("album/1.png", "album/bad/bad_truncated.jpg")  # repaired
    ended = pixel_llm(command)
    assert "1 captioned, 9 done before, 3 bad." in ended.err
    shutil.rmtree("album/bad")
    ended = pixel_llm(command)
    assert (ended.status, Path("out.jsonl.bad").exists()) == (0, False)
    assert ended.err == "9 of 9 are done already.\n0 captioned, 9 done before.\n"


def test_a_folder_captioned_as_a_manifest_is_one_to_train_on(pixel_llm, trained_run, album):
    assert pixel_llm("caption", trained_run, album, output_of("manifest")).status == 1
    samples = read_samples(album, "auto")
    assert sorted(str(each.image_path) for each in samples) == good_pictures("manifest")
    assert not Path("album/manifest.json.partial").exists()


def test_a_folder_captioned_as_text_files_is_one_to_train_on(pixel_llm, trained_run, album):
    shutil.rmtree(album / "bad")
    assert pixel_llm("caption", trained_run, album, "--as", "txt").status == 0
    assert sorted(str(each.image_path) for each in read_samples(album, "text")) == good_pictures("txt")


def test_captions_of_people_are_not_touched(pixel_llm, trained_run, pictures):
    before = {path: path.read_bytes() for path in pictures.iterdir()}
    ended = pixel_llm("caption", trained_run, pictures, "--as", "txt")
    assert (ended.status, ended.err) == (0, "12 of 12 are done already.\n0 captioned, 12 done before.\n")
    assert {path: path.read_bytes() for path in pictures.iterdir()} == before
    assert pixel_llm("caption", trained_run, pictures, "--as", "txt", "--overwrite").status == 0
    assert all(path.suffix != ".txt" or path.read_bytes() != content for path, content in before.items())


def test_several_captions_a_picture(pixel_llm, trained_run, pictures):
    words = ["caption", trained_run, pictures, "--num-beams", 4, "--num-return-sequences", 2]
    pixel_llm(words, "--as", "jsonl", "--output", "out.jsonl")
    records = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (
        {len(record["caption"]) for record in records} == {len(record["log_probability"]) for record in records} == {2}
    )
    assert all(record["log_probability"] == sorted(record["log_probability"], reverse=True) for record in records)
    assert [line.count("\t") for line in pixel_llm(words).lines] == [2] * 12
    pixel_llm(words, "--as", "csv", "--output", "out.csv")
    assert len(Path("out.csv").read_text(encoding="utf-8").splitlines()) == 1 + 24


def test_drawn_captions_follow_from_the_seed(pixel_llm, trained_run, pictures):
    words = ["caption", trained_run, pictures, "--do-sample", "--temperature", 2, "--max-length", 8]
    assert pixel_llm(words).out == pixel_llm(words, "--seed", 0).out != pixel_llm(words, "--seed", 1).out


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_other_forms_go_to_stdout_too(pixel_llm, trained_run, album, form):
    ended = pixel_llm("caption", trained_run, album, "--as", form)
    assert ended.status == 1
    Path(f"out.{form}").write_bytes(ended.out.encode())
    assert len(names_in(form)) == NUM_GOOD


def test_a_list_on_stdin(pixel_llm, trained_run, album, monkeypatch):
    names = b"album/1.png\0album/a b/two\nlines.png\0" + os.fsencode(f"album/{NO_TEXT}") + b"\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
    ended = pixel_llm("caption", trained_run, "-", "-0", "--as", "jsonl")
    assert [json.loads(line)["image"] for line in ended.lines] == [
        "album/1.png", "album/a b/two\nlines.png", f"album/{NO_TEXT}",
    ]  # fmt: skip


def test_flags_may_stand_between_the_words(pixel_llm, trained_run, pictures):
    ended = pixel_llm("caption", "--num-beams", 1, trained_run, "--max-length", 4, pictures, "--as", "lines")
    assert (ended.status, len(ended.lines)) == (0, 12)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--as", "txt", "--output", "x"], "takes no --output"),
        (["--as", "manifest"], "--output photos/manifest.json"),
        (["--output", "pictures"], "is a folder"),
        (["--output", "a.png"], "named as a picture"),
        (["--watch-seconds", "0"], "--watch-seconds must be a number above 0"),
        (["--num-workers", "0"], "--num-workers must be a whole number at least 1"),
        (["--num-beams", "1", "--num-return-sequences", "2"], "--num-return-sequences=2"),
    ],
)
def test_wrong_usage_is_told(pixel_llm, trained_run, pictures, words, told):
    ended = pixel_llm("caption", trained_run, pictures, words)
    assert (ended.status, ended.out) == (2, "")
    assert told in " ".join(ended.err.replace("│", " ").split())


def test_watching_needs_a_folder(pixel_llm, trained_run, pictures):
    ended = pixel_llm("caption", trained_run, "pictures/picture_00.png", "--watch")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "--watch looks for new pictures in folders" in ended.err


def test_watching_captions_what_comes_and_ends_with_ctrl_c(pixel_llm, trained_run, pictures, monkeypatch):
    """The clock is the test's: something happens at each look, and Ctrl-C comes at the last."""
    whole = Path("pictures/picture_00.png").read_bytes()
    inbox = Path("inbox")
    inbox.mkdir()

    def put(name, content):
        (inbox / name).write_bytes(content)

    happenings = iter(
        [
            lambda: put("a.png", whole),
            lambda: put("b.png", whole[:50]),  # half copied, and the copying is stuck
            lambda: None,
            lambda: None,
            lambda: put("b.png", whole),  # goes on
            lambda: put("c.png", b"never a picture"),
            *[lambda: None] * 6,
            lambda: signal.raise_signal(signal.SIGINT),
        ]
    )
    monkeypatch.setattr(caption, "sleep_until_stopped", lambda seconds, should_stop: next(happenings)())
    ended = pixel_llm(
        "caption", trained_run, inbox, pictures / "picture_01.png", "--watch", "--as", "jsonl", "--output", "o"
    )
    assert ended.status == 130
    records = [json.loads(line) for line in Path("o").read_text(encoding="utf-8").splitlines()]
    assert [record["image"] for record in records] == ["pictures/picture_01.png", "inbox/a.png", "inbox/b.png"]
    assert "c.png is not a picture" in ended.err
    assert "3 captioned, 1 bad." in ended.err
    assert "b.png" not in ended.err


def test_an_empty_folder_may_be_watched(pixel_llm, trained_run, monkeypatch):
    Path("inbox").mkdir()
    assert pixel_llm("caption", trained_run, "inbox").status == 1
    monkeypatch.setattr(caption, "sleep_until_stopped", lambda seconds, should_stop: signal.raise_signal(signal.SIGINT))
    ended = pixel_llm("caption", trained_run, "inbox", "--watch", "--as", "txt")
    assert (ended.status, ended.out) == (130, "")
    assert "0 captioned." in ended.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_disk_that_is_full_ends_the_run_with_what_to_do(pixel_llm, trained_run, pictures, monkeypatch):
    def opened_alone(file):
        return open("/dev/full", "ab", buffering=0)  # noqa: PTH123

    monkeypatch.setattr(caption_writers, "opened_alone", opened_alone)
    monkeypatch.setattr(caption_writers.AppendedRows, "settle", lambda self: pytest.fail("it was not stopped"))
    ended = pixel_llm("caption", trained_run, pictures, "--as", "jsonl", "--output", "out.jsonl")
    assert ended.status == 1
    assert "out.jsonl cannot be written: No space left on device. What was captioned before this is kept." in ended.err
