"""`pixel-llm train` and `inspect` on several folders at once: formats, sides, weights, and what a resume takes up."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from systems.pixel_llm.cli.options import parse_train
from systems.pixel_llm.cli.train import read_data
from systems.pixel_llm.data.split import split_samples
from systems.pixel_llm.errors import ConfigError, DatasetError
from tests.cli.conftest import TINY, draw_pictures


@pytest.fixture
def folders(in_tmp_path: Path) -> Path:
    """In the current folder: photos, twelve pictures with text files, and drawings, eight in a manifest."""
    draw_pictures(Path("photos"))
    names = [path.name for path in sorted(draw_pictures(Path("drawings"), 8, captions=False).iterdir())]
    Path("drawings/manifest.json").write_text(json.dumps({name: ["drawn", "a drawing"] for name in names}))
    return in_tmp_path


def read(*words):
    return read_data(parse_train([*map(str, words), "--device", "cpu"]))


def from_folder(samples):
    """Folder -> how many of the samples lie in it."""
    return Counter(sample.image_path.parent.as_posix() for sample in samples)


def weights_by_folder(sides):
    """Folder -> the weights of its training pictures."""
    found = {}
    for sample, weight in zip(sides.train, sides.train_weights.tolist(), strict=True):
        found.setdefault(sample.image_path.parent.name, set()).add(weight)
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def test_each_folder_is_read_in_its_own_format_and_told(pixel_llm, folders):
    ended = pixel_llm("train", "photos", "drawings", TINY, "--max-steps", 1)
    assert ended.status == 0
    assert "photos read as: text files beside the pictures\n" in ended.err
    assert "drawings read as: JSON manifest, manifest.json\n" in ended.err
    assert Path("runs/photos/options.toml").is_file()  # named after the first
    train, val = (
        from_folder(part) for part in (read("photos", "drawings").train, read("photos", "drawings").validation)
    )
    assert train + val == {"photos": 12, "drawings": 8}
    for name in ("photos", "drawings"):
        assert f"{name}: {train[name]} pictures to train on, {val[name]} to validate on" in ended.err
    assert f"{train.total()} pictures to train on, {val.total()} to validate on" in ended.err


def test_each_folder_is_divided_as_it_would_be_alone(folders):
    both = read("photos", "drawings", "--validation-fraction", "0.3")
    parts = [read(name, "--validation-fraction", "0.3") for name in ("photos", "drawings")]
    assert both.train == [*parts[0].train, *parts[1].train]
    assert both.validation == [*parts[0].validation, *parts[1].validation]
    assert both.train_weights is None


def test_lists_in_a_folder_are_used_for_that_folder(folders):
    names = sorted(path.name for path in Path("photos").glob("*.png"))
    for path in Path("photos").glob("*.txt"):
        path.unlink()
    Path("photos/Flickr8k.token.txt").write_text("".join(f"{name}#0\ta square\n" for name in names))
    Path("photos/Flickr_8k.trainImages.txt").write_text("\n".join(names[:7]))
    Path("photos/Flickr_8k.devImages.txt").write_text("\n".join(names[7:10]))
    sides, alone = read("drawings", "photos"), read("drawings")
    assert from_folder(sides.train)["photos"] == 7
    assert from_folder(sides.validation)["photos"] == 3
    assert from_folder(sides.train)["drawings"] == len(alone.train) < 8


def test_a_folder_for_validation_takes_the_place_of_the_parts_held_back(folders):
    draw_pictures(Path("photos/later"), 3)
    sides = read("photos", "drawings", "--val", "photos/later")
    assert from_folder(sides.train) == {"photos": 12, "drawings": 8}
    assert from_folder(sides.validation) == {"photos/later": 3}


def test_a_folder_inside_another_is_not_trained_on_twice(pixel_llm, folders):
    draw_pictures(Path("photos/best"), 5)
    ended = pixel_llm("train", "photos", "photos/best", TINY, "--weights", "1,3", "--max-steps", 1, "--out", "run")
    assert ended.status == 0
    assert (
        "warning: photos/best is inside photos: the 5 pictures that both have count as part of the inner" in ended.err
    )
    sides = read("photos", "photos/best", "--weights", "1,3")
    assert from_folder([*sides.train, *sides.validation]) == {"photos": 12, "photos/best": 5}
    assert weights_by_folder(sides) == {"photos": {1}, "best": {3}}
    train, _ = split_samples(read("photos/best", "--val", "drawings").train, dataset_dir="photos/best", fraction=0.1)
    assert [sample for sample in sides.train if sample.image_path.parent.name == "best"] == train


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_belong_to_the_folders_in_their_order_and_validation_has_none(pixel_llm, folders):
    sides = read("photos", "drawings", "--weights", "2,0.5")
    assert weights_by_folder(sides) == {"photos": {2.0}, "drawings": {0.5}}
    assert sides.validation == read("photos", "drawings").validation
    train = from_folder(sides.train)
    an_epoch = 2 * train["photos"] + round(train["drawings"] / 2 + 1e-9)
    ended = pixel_llm("train", "photos", "drawings", "--weights", "2,0.5", TINY, "--epochs", 1, "--out", "run")
    assert ended.status == 0
    assert f"{train.total()} pictures to train on ({an_epoch} an epoch)" in ended.err
    assert f"photos: {train['photos']} pictures to train on ({2 * train['photos']} an epoch)" in ended.err
    lines = map(json.loads, Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines())
    assert [line["step"] for line in lines if line["kind"] == "end"] == [-(-an_epoch // 4)]  # batches of four


def test_weights_that_are_all_1_are_none(folders):
    assert read("photos", "drawings", "--weights", "1,1").train_weights is None


def test_the_n_of_kohya_folders_multiplies_the_weight_when_asked_to(pixel_llm, folders):
    shutil.move("photos", "data/3_photos")
    draw_pictures(Path("data/10_more"), 4)
    assert read("data", "drawings").train_weights is None
    sides = read("data", "drawings", "--repeats", "use", "--weights", "0.5,2")
    assert weights_by_folder(sides) == {"3_photos": {1.5}, "10_more": {5.0}, "drawings": {2.0}}
    ended = pixel_llm("train", "data", "--repeats", "use", TINY, "--max-steps", 1, "--out", "run")
    assert "data read as: kohya folders, 10_more, 3_photos; N is used as a weight" in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["photos", "drawings", "--weights", "2"],
            r"weights=2 must have as many numbers .* 2: photos, drawings\. .*1,1",
        ),
        (
            ["photos", "--weights", "2,1"],
            r"weights=2,1 must have as many numbers as DATA names folders, .* 1: photos\.",
        ),
        (["photos", "drawings", "--weights", "1", "2"], r"3: photos, drawings, 2\. .*in one word: --weights 1,1,1\."),
        (["photos", "drawings", "--manifest", "m.json"], r"manifest='m\.json' names the pictures of one folder"),
        (["photos", "drawings", "--val-manifest", "m.json"], r"val_manifest='m\.json' needs --val FOLDER"),
        (["photos", "photos/../photos"], r"names a folder twice: photos, photos/\.\./photos\. .*--weights"),
        (["photos", "--repeats", "use"], r"repeats='use' needs a folder that is read as kohya"),
    ],
)
def test_options_that_do_not_fit_the_folders(folders, words, message):
    with pytest.raises(ConfigError, match=message):
        read(*words)


def test_pictures_that_never_come_are_nothing_to_train_on(folders):
    shutil.move("photos", "data/0_photos")
    with pytest.raises(DatasetError, match=r"every picture to train on has the weight 0: .*0_name"):
        read("data", "--repeats", "use")
    sides = read("data", "drawings", "--repeats", "use")
    assert weights_by_folder(sides) == {"0_photos": {0.0}, "drawings": {1.0}}


# --- going on, looking ------------------------------------------------------------------------------------------------


def test_a_resume_takes_the_weights_up_and_tells_of_other_folders(pixel_llm, folders):
    begun = pixel_llm(
        "train", "photos", "drawings", "--weights", "2,1", TINY, "--max-steps", 1, "--out", "run"
    )  # fmt: skip
    assert begun.status == 0
    resume = [*TINY, "--out", "run", "--resume", "--max-steps"]
    ended = pixel_llm("train", "photos", "drawings", resume, 2)
    assert ended.status == 0
    assert "This run was started on" not in ended.err
    assert " an epoch), " in ended.err
    ended = pixel_llm("train", "drawings", "photos", resume, 3)
    assert f"warning: This run was started on {folders}/photos {folders}/drawings; from here on it" in ended.err
    ended = pixel_llm("train", "photos", resume, 4)
    assert (ended.status, "weights=2,1 must have as many numbers" in ended.err) == (2, True)
    assert pixel_llm("train", "photos", resume, 4, "--weights", "none").status == 0


def test_options_of_a_run_on_one_folder_from_before_are_understood(pixel_llm, folders):
    pixel_llm("train", "photos", TINY, "--max-steps", 1, "--out", "run")
    recorded = Path("run/options.toml").read_text(encoding="utf-8")
    assert f'data = "{folders}/photos"' in recorded
    without = [line for line in recorded.splitlines() if not line.startswith("repeats")]
    Path("run/options.toml").write_text("\n".join(without), encoding="utf-8")
    ended = pixel_llm("train", "photos", "--out", "run", "--resume", "--max-steps", 2)
    assert ended.status == 0
    assert "This run was started on" not in ended.err


def test_inspect_looks_at_all_folders(pixel_llm, folders):
    draw_pictures(Path("drawings/lone"), 2, captions=False)
    draw_pictures(Path("photos/alone"), 1, captions=False)
    ended = pixel_llm(
        "inspect", "photos", "drawings", "--weights", "1,2", "--json", "found.json", "--html", "page.html"
    )  # fmt: skip
    assert ended.status == 0
    assert ended.lines[:4] == [
        "photos (12 pictures)", "read as: text files beside the pictures",
        "drawings (8 pictures)", "read as: JSON manifest, manifest.json",
    ]  # fmt: skip
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    sides = read("photos", "drawings", "--weights", "1,2")
    assert (found["samples"], found["train_samples"], found["format"]) == (20, len(sides.train), "text, json")
    assert found["folders"] == [
        {"path": "photos", "format": "text", "manifest": None, "samples": 12},
        {"path": "drawings", "format": "json", "manifest": "drawings/manifest.json", "samples": 8},
    ]
    assert found["train_samples_an_epoch"] == int(np.sum(sides.train_weights))
    assert f"{found['train_samples_an_epoch']} pictures, by their weights" in ended.out
    assert found["pictures_without_captions"] == [
        "photos/alone/picture_00.png", "drawings/lone/picture_00.png", "drawings/lone/picture_01.png",
    ]  # fmt: skip
    # Copies in two folders are found as in one.
    assert any(
        {"photos", "drawings"} <= {Path(path).parent.name for path in group["paths"]} for group in found["duplicates"]
    )


def test_inspect_names_the_folder_that_cannot_be_read(pixel_llm, folders):
    ended = pixel_llm("inspect", "photos", "absent", "--json", "found.json")
    assert ended.status == 1
    assert "The data folder absent does not exist" in json.loads(Path("found.json").read_text())["checks"][0]["found"]
