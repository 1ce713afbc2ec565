"""`pixel-llm inspect`: a summary that is read at 80 columns, a JSON file in any case, and an exit status to rely on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from systems.pixel_llm.data import find_format, read_samples, split_samples


def findings():
    return json.loads(Path("found.json").read_text(encoding="utf-8"))


def test_a_sound_folder(pixel_llm, pictures):
    ended = pixel_llm("inspect", pictures, "--image-size", 32, "--json", "found.json", "--html", "page.html")
    assert ended.status == 0
    found = findings()
    assert (found["format"], found["samples"], found["bad"], found["odd"]) == ("text", 12, [], [])
    assert found["should_train"] is True
    groups = [[pictures / f"picture_{number:02}.png" for number in (low, low + 6)] for low in range(6)]
    train, validation = split_samples(
        read_samples(pictures, *find_format(pictures)), dataset_dir=pictures, fraction=0.1, groups=groups
    )
    assert (found["train_samples"], found["validation_samples"]) == (len(train), len(validation))
    assert ended.lines[:2] == ["pictures", "read as: text files beside the pictures"]
    assert max(map(len, ended.lines)) <= 80
    assert "read as" not in ended.err  # on a terminal it would be there twice
    assert ended.lines[-2:] == ["page: page.html", "findings: found.json"]
    assert "\x1b" not in ended.out  # no colours where there is no terminal


def test_pictures_that_training_would_skip_are_listed_and_stop(pixel_llm, pictures):
    for name in ("picture_03.png", "picture_07.png"):
        (pictures / name).write_bytes((pictures / name).read_bytes()[:70])
    ended = pixel_llm("inspect", pictures, "--json", "found.json")
    assert ended.status == 1
    found = findings()
    assert [each["path"] for each in found["bad"]] == [str(pictures / f"picture_{place}.png") for place in ("03", "07")]
    assert all(each["reason"].startswith("cannot be decoded: ") for each in found["bad"])
    assert (found["samples"], found["should_train"]) == (12, False)
    assert "Unreadable pictures, skipped in training (2)" in ended.out
    assert "Training should not start: readable pictures." in ended.out


def test_what_the_record_holds_is_in_the_order_of_training_and_validation(pixel_llm, pictures):
    (pictures / "wide.png").write_bytes(b"")
    Image.new("RGB", (400, 20), "red").save(pictures / "wide.png")
    (pictures / "wide.txt").write_text("A wide red strip", encoding="utf-8")
    pixel_llm("inspect", pictures, "--json", "found.json")
    (odd,) = findings()["odd"]
    assert odd["path"] == str(pictures / "wide.png")
    assert "20.0 times as wide as high" in odd["what"]


@pytest.mark.parametrize("case", ["absent", "a file", "empty", "no captions"])
def test_a_folder_that_cannot_be_read_is_told_in_the_file_too(pixel_llm, in_tmp_path, tiny_picture_folder, case):
    data = in_tmp_path / "data"
    if case == "a file":
        data.write_text("x", encoding="utf-8")
    elif case == "empty":
        data.mkdir()
    elif case == "no captions":
        tiny_picture_folder("data", 3, text=False)
    ended = pixel_llm("inspect", data, "--json", "found.json", "--html", "page.html")
    assert ended.status == 1
    found = findings()
    assert (found["format"], found["samples"], found["bad"]) == (None, 0, [])
    assert found["checks"][0]["status"] == "stop"
    assert str(data) in found["checks"][0]["found"]
    assert len(found["pictures_without_captions"]) == (3 if case == "no captions" else 0)
    assert "Training should not start: data." in ended.out
    assert ended.lines[1] == "not read: see below"
    assert (in_tmp_path / "page.html").is_file()


def test_validation_data_of_its_own_is_looked_at_too(pixel_llm, pictures, tiny_picture_folder):
    val = tiny_picture_folder("val", 4)
    shutil.copy(pictures / "picture_00.png", val / "stolen.png")
    (val / "stolen.txt").write_text("A red square on the left", encoding="utf-8")
    (val / "picture_01.png").write_bytes(b"no picture")
    pixel_llm("inspect", pictures, "--val", val, "--json", "found.json")
    found = findings()
    assert (found["train_samples"], found["validation_samples"]) == (12, 5)
    assert [each["path"] for each in found["bad"]] == [str(val / "picture_01.png")]
    leaks = [each for each in found["duplicates"] if each["is_leak"]]
    assert [each["validation_paths"] for each in leaks] == [[str(val / "stolen.png")]]


def test_manifests_for_both_sides(pixel_llm, in_tmp_path, tiny_picture_folder):
    folder = tiny_picture_folder("data", 6, text=False)
    names = sorted(path.name for path in folder.iterdir())
    (folder / "train.json").write_text(json.dumps(dict.fromkeys(names[:4], "a caption")), encoding="utf-8")
    (folder / "val.json").write_text(json.dumps(dict.fromkeys(names[4:], "a caption")), encoding="utf-8")
    pixel_llm(
        "inspect", folder, "--manifest", folder / "train.json", "--val-manifest", folder / "val.json", "--json",
        "found.json",
    )  # fmt: skip
    found = findings()
    assert (found["format"], found["train_samples"], found["validation_samples"]) == ("json", 4, 2)
    assert found["manifest"] == str(folder / "train.json")
    assert found["pictures_without_captions"] == []


def test_other_formats_and_their_own_split_are_read_as_train_reads_them(pixel_llm, in_tmp_path, tiny_picture_folder):
    folder = tiny_picture_folder("data", 6, text=False)
    names = sorted(path.name for path in folder.iterdir())
    lines = [f"{name}#{number}\tcaption {number} of {name}\n" for name in [*names, "gone.jpg"] for number in range(2)]
    (folder / "Flickr8k.token.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "Flickr_8k.trainImages.txt").write_text("\n".join(names[:4]), encoding="utf-8")
    (folder / "Flickr_8k.devImages.txt").write_text(names[4], encoding="utf-8")
    pixel_llm("inspect", folder, "--json", "found.json")
    found = findings()
    assert (found["format"], found["train_samples"], found["validation_samples"]) == ("flickr8k", 4, 1)
    assert found["captions"]["num_captions"] == 10
    assert found["captions_without_pictures"] == ["gone.jpg"]
    assert found["pictures_without_captions"] == []  # the sixth has one: it is in neither list


def test_columns_of_a_table_can_be_named(pixel_llm, in_tmp_path, tiny_picture_folder):
    folder = tiny_picture_folder("data", 3, text=False)
    rows = "".join(f"{path.name},said of {path.stem}\n" for path in sorted(folder.iterdir()))
    (folder / "table.csv").write_text("which,what\n" + rows, encoding="utf-8")
    words = ["--image-column", "which", "--caption-column", "what"]
    assert pixel_llm("inspect", folder, words, "--json", "found.json").status == 0
    assert (findings()["format"], findings()["samples"]) == ("csv", 3)
    assert pixel_llm("split", folder, words, "--out", "out", "--val", "0.4").status == 0


def test_hostile_captions_steer_no_terminal(pixel_llm, pictures):
    caption = "[bold red]x[/bold red] :smile: \N{RIGHT-TO-LEFT OVERRIDE} <b>"
    for number in range(4):
        (pictures / f"picture_0{number}.txt").write_text(caption, encoding="utf-8")
    ended = pixel_llm("inspect", pictures, "--json", "found.json")
    assert "[bold red]x[/bold red] :smile:" in ended.out
    assert "\x1b" not in ended.out


def test_names_that_are_no_text_are_written_and_shown(pixel_llm, pictures, repository_root):
    for name in (b"caf\xe9.png", b"new\nline.png", b"\x1b[31mred.png"):
        try:
            picture = Path(os.fsdecode(os.fsencode(pictures) + b"/" + name))
            picture.write_bytes(b"no picture")
        except OSError:
            pytest.skip("this file system has no such names")
        picture.with_suffix(".txt").write_text("A caption", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "systems.pixel_llm", "inspect", pictures, "--json", "found.json", "--html", "page.html"],
        env=os.environ | {"PYTHONPATH": str(repository_root)}, capture_output=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert b"\x1b" not in ended.stdout
    assert rb"new\nline.png" in ended.stdout
    assert {Path(each["path"]).name for each in findings()["bad"]} == {
        "caf\udce9.png",
        "new\nline.png",
        "\x1b[31mred.png",
    }
    assert "Unreadable pictures (3)" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("flag", ["--json", "--html"])
def test_a_file_that_cannot_be_written_is_an_error(pixel_llm, pictures, flag):
    ended = pixel_llm("inspect", pictures, flag, "absent/found")
    assert ended.status == 1
    assert ended.err.splitlines()[-1].startswith(f"pixel-llm: {flag} absent/found cannot be written")


@pytest.mark.parametrize("words", [[], ["--max-seq-len", "0"], ["--num-workers", "0"], ["--image-size", "x"]])
def test_wrong_usage(pixel_llm, pictures, words):
    assert pixel_llm("inspect", *([pictures, words] if words else [])).status == 2


def test_nothing_is_written_unless_asked_for(pixel_llm, pictures, in_tmp_path):
    before = sorted(in_tmp_path.rglob("*"))
    pixel_llm("inspect", pictures)
    assert sorted(in_tmp_path.rglob("*")) == before
