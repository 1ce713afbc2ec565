"""What `train` says of its data before it starts, and the automatic split that comes of the same look."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from systems.pixel_llm.cli import first_look, reading
from systems.pixel_llm.cli.options import parse_train
from systems.pixel_llm.cli.train import read_data
from systems.pixel_llm.data import scan_cache
from systems.pixel_llm.data.duplicates import find_duplicates
from systems.pixel_llm.data.inspection_pictures import scan_pictures
from systems.pixel_llm.data.scan_cache import ScanCache

TINY = [
    "--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
    "--batch-size", "4", "--precision", "fp32", "--num-workers", "0", "--max-steps", "1",
]  # fmt: skip


def both_sides(command, *cache):
    sides = read_data(command, *cache)
    return sides.train, sides.validation


FEW = "warning: number of pictures: {} captioned pictures. At least 1,000 are advised"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXEL_LLM_CACHE", str(tmp_path / "cache"))


def write_photographs(folder, numbers, *, size=(48, 36)):
    """One unlike any other for each number."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size).save(folder / f"{number:04}.png")
        (folder / f"{number:04}.txt").write_text(f"A picture that shows the number {number}", encoding="utf-8")
    return folder


def look(ended):
    """What was said between reading and training."""
    lines = ended.err.splitlines()
    end = next((at for at, line in enumerate(lines) if " parameters on " in line), len(lines))
    return lines[1:end]


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_sound_folder_is_one_line_and_none_the_next_time(pixel_llm, in_tmp_path, monkeypatch):
    folder = write_photographs(in_tmp_path / "data", range(30))
    monkeypatch.setattr("systems.pixel_llm.data.inspection_checks.ADVISED_PICTURES", 30)
    ended = pixel_llm("train", folder, TINY, "--out", "one")
    assert (ended.status, look(ended)) == (0, ["Looking at 30 pictures."])
    assert look(pixel_llm("train", folder, TINY, "--out", "two")) == []
    assert "Looking at" not in pixel_llm("inspect", folder).err
    ended = pixel_llm("split", folder, "--out", "sides")
    assert (ended.status, "Looking at" in ended.err) == (0, False)


def test_only_new_pictures_are_looked_at(pixel_llm, in_tmp_path):
    folder = write_photographs(in_tmp_path / "data", range(8))
    pixel_llm("inspect", folder)
    write_photographs(folder, range(8, 11))
    assert "Looking at 3 pictures." in pixel_llm("train", folder, TINY, "--out", "run").err


def test_what_is_wrong_is_a_line_each_and_where_to_see_more(pixel_llm, in_tmp_path):
    folder = write_photographs(in_tmp_path / "my data", range(12))
    for number in range(4):
        (folder / f"{number:04}.txt").write_text("IMG_0001.JPG", encoding="utf-8")
    (folder / "0007.png").write_bytes(b"no picture")
    lines = look(pixel_llm("train", folder, TINY, "--max-bad-share", "0.5", "--out", "run"))
    assert [line.split(":")[1].strip() for line in lines[1:-1]] == [
        "number of pictures", "readable pictures", "caption quality",
    ]  # fmt: skip
    assert lines[1].startswith(FEW.format(12))
    assert "1 of 12 pictures (8.3 %) is unreadable. Training leaves them out and lists them" in lines[2]
    assert "4 of 12 captions (33.3 %) are suspicious; most often: is the file's name (4). Read" in lines[3]
    assert lines[-1] == f"More about the data: pixel-llm inspect '{folder}' --image-size 32"


def test_the_command_for_more_reads_the_data_as_training_does(pixel_llm, in_tmp_path):
    folder = write_photographs(in_tmp_path / "data", range(12))
    words = ["--format", "text", "--captions-per-file", "lines", "--weights", "0.5"]
    advised = look(pixel_llm("train", folder, *words, TINY, "--max-seq-len", "64", "--out", "run"))[-1]
    given = " ".join([*words, "--image-size", "32", "--max-seq-len", "64"])
    assert advised == f"More about the data: pixel-llm inspect {folder} {given}"
    assert pixel_llm("inspect", folder, *given.split()).status == 0


def test_leaks_into_validation_data_of_its_own_are_told(pixel_llm, in_tmp_path):
    folder = write_photographs(in_tmp_path / "data", range(10))
    val = write_photographs(in_tmp_path / "val", range(20, 24))
    shutil.copy(folder / "0003.png", val / "0020.png")
    ended = pixel_llm("train", folder, "--val", val, TINY, "--out", "run")
    assert ended.status == 0
    (line,) = [line for line in look(ended) if "warning: validation: " in line]
    assert "1 of 4 validation pictures (25 %) is nearly or quite the same as one in training" in line
    assert look(ended)[-1].endswith(f"pixel-llm inspect {folder} --val {val} --image-size 32")


def test_a_run_that_goes_on_is_not_told_again(pixel_llm, pictures):
    assert FEW.format(12) in pixel_llm("train", pictures, TINY, "--out", "run").err
    ended = pixel_llm("train", pictures, "--out", "run", "--resume", "--max-steps", 2)
    assert (ended.status, "warning" in ended.err) == (0, False)


def test_a_picture_that_cannot_be_read_ends_the_run_at_once_where_that_is_wanted(pixel_llm, in_tmp_path):
    folder = write_photographs(in_tmp_path / "data", range(12))
    (folder / "0007.png").write_bytes(b"no picture")
    ended = pixel_llm("train", folder, TINY, "--on-bad-sample", "raise", "--out", "run")
    assert (ended.status, ended.out, Path("run").exists()) == (1, "", False)
    assert ended.err.splitlines()[-1].startswith(f"pixel-llm: {folder}/0007.png is not a picture that can be read")


def test_a_cache_that_cannot_be_written_costs_a_line(pixel_llm, pictures, tmp_path):
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    ended = pixel_llm("train", pictures, TINY, "--out", "run")
    assert ended.status == 0
    assert ended.err.count("warning: What was seen in the pictures cannot be kept in ") == 1


# --- very many pictures -----------------------------------------------------------------------------------------------


@pytest.fixture
def many(monkeypatch):
    """Twenty pictures are many."""
    monkeypatch.setattr(reading, "MAX_LOOKED_AT", 20)
    monkeypatch.setattr(first_look, "MAX_LOOKED_AT", 20)
    monkeypatch.setattr(first_look, "SAMPLE_SIZE", 5)


def test_of_very_many_pictures_some_are_looked_at(pixel_llm, in_tmp_path, many):
    folder = write_photographs(in_tmp_path / "data", range(40))
    for number in range(40):
        (folder / f"{number:04}.txt").write_text(f"IMG_{number:04}.JPG", encoding="utf-8")
    lines = look(pixel_llm("train", folder, TINY, "--out", "run"))
    assert lines[0].startswith("40 pictures are too many to look for like ones at every start")
    assert f"pixel-llm split {folder} --out FOLDER" in lines[0]
    seen = int(lines[1].split()[2])
    assert 5 <= seen < 20
    assert lines[1] == f"Looking at {seen} pictures."
    assert lines[2] == f"Looked at {seen} of the pictures:"
    assert any("captions (100 %) are suspicious" in line for line in lines)


def test_of_very_many_pictures_those_of_one_coco_id_are_still_on_one_side(in_tmp_path, many):
    folder = in_tmp_path / "data"
    folder.mkdir()
    captions = {}
    for number in range(60):
        for name in (f"COCO_val2014_{number:012}.png", f"{number:012}.png"):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name)
            captions[name] = f"picture {number}"
    (folder / "manifest.json").write_text(json.dumps(captions), encoding="utf-8")
    train, validation = both_sides(parse_train([str(folder), "--validation-fraction", "0.3"]))
    ids = [{sample.image_path.stem[-12:] for sample in side} for side in (train, validation)]
    assert all(ids)
    assert not ids[0] & ids[1]


# --- the automatic split ----------------------------------------------------------------------------------------------


def sides_of(folder, *words):
    with ScanCache(folder) as cache:
        return both_sides(parse_train([str(folder), "--validation-fraction", "0.3", *words]), cache)


@pytest.fixture
def twins(in_tmp_path):
    """Twenty pictures, each there as a larger JPEG too."""
    folder = write_photographs(in_tmp_path / "data", range(20), size=(64, 48))
    for picture in sorted(folder.glob("*.png")):
        with Image.open(picture) as opened:
            opened.resize((96, 72)).save(folder / f"{picture.stem}_large.jpg", quality=95)
        (folder / f"{picture.stem}_large.txt").write_text("The same, larger", encoding="utf-8")
    return folder


def test_pictures_that_look_the_same_are_on_one_side(pixel_llm, twins):
    train, validation = sides_of(twins)
    numbers = [{sample.image_path.name[:4] for sample in side} for side in (train, validation)]
    assert all(numbers)
    assert not numbers[0] & numbers[1]
    assert len(train) + len(validation) == 40
    pixel_llm("inspect", twins, "--json", "found.json")
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert len(found["duplicates"]) == 20
    assert not any(group["is_leak"] for group in found["duplicates"])


def test_the_split_does_not_depend_on_what_is_remembered(twins, in_tmp_path, monkeypatch):
    first = sides_of(twins)
    assert sides_of(twins) == first
    (remembered,) = (in_tmp_path / "cache" / "scans").iterdir()
    remembered.write_bytes(remembered.read_bytes()[:200])
    assert sides_of(twins) == first
    monkeypatch.setenv("PIXEL_LLM_CACHE", os.devnull)
    assert sides_of(twins) == first


def test_a_resumed_run_finds_the_sides_it_had(pixel_llm, twins, in_tmp_path):
    def counts(ended):
        return [line.split("; ")[1] for line in ended.err.splitlines() if " parameters on " in line]

    first = pixel_llm("train", twins, TINY, "--out", "run")
    shutil.rmtree(in_tmp_path / "cache")
    again = pixel_llm("train", twins, "--out", "run", "--resume", "--max-steps", 2)
    assert counts(first) == counts(again)
    assert counts(first)


def test_inspect_and_train_divide_alike(twins, pixel_llm):
    train, validation = both_sides(parse_train([str(twins)]))
    pixel_llm("inspect", twins, "--json", "found.json")
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert (found["train_samples"], found["validation_samples"]) == (len(train), len(validation))


def test_one_picture_over_and_over_leaves_nothing_to_validate_on(pixel_llm, pictures):
    for number in range(1, 12):
        shutil.copy(pictures / "picture_00.png", pictures / f"picture_{number:02}.png")
    ended = pixel_llm("train", pictures, TINY, "--out", "run")
    assert ended.status == 0
    assert "12 pictures to train on, 0 to validate on" in ended.err
    assert "warning: All 12 pictures look the same: none is held back to validate on." in ended.err


def test_real_pictures_leak_no_more(shared_data):
    train, validation = both_sides(parse_train([str(shared_data / "emoji_noto")]))
    held_back = {sample.image_path for sample in validation}
    scanned = scan_pictures([sample.image_path for sample in (*train, *validation)])
    leaks = [group for group in find_duplicates(scanned, validation_paths=held_back) if group.is_leak]
    assert leaks == []
    assert 0.08 < len(validation) / len(scanned) < 0.12


def test_nothing_is_opened_twice_by_one_command(pixel_llm, twins, monkeypatch):
    opened = []

    def scan(paths, **options):
        opened.extend(paths)
        return scan_pictures(paths, **options)

    monkeypatch.setattr(scan_cache, "scan_pictures", scan)
    assert pixel_llm("train", twins, TINY, "--out", "run").status == 0
    assert len(opened) == len(set(opened)) == 40
