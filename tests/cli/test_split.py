"""`pixel-llm split`: manifests that train takes, every picture on one side, those that look the same together."""

import json
import shutil

import pytest

from systems.pixel_llm.data import read_samples


def sides(out):
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))}


def test_every_picture_is_on_one_side_and_can_be_read_from_there(pixel_llm, tiny_picture_folder, in_tmp_path):
    folder, out = tiny_picture_folder("data", 12, manifest=True), in_tmp_path / "out"
    captions = {path.name: [f"one of {path.stem}", "two"] for path in folder.glob("picture*.[jpw]*")}
    (folder / "manifest.json").write_text(json.dumps(captions), encoding="utf-8")
    ended = pixel_llm("split", folder, "--out", out, "--val", "0.3", "--test", "0.2")
    assert ended.status == 0
    found = sides(out)
    names = [name for side in found.values() for name in side]
    assert sorted(names) == sorted(captions)
    assert ended.lines == [
        f"{side}: {len(found[side])} pictures, {out / side}.json" for side in ("train", "val", "test")
    ]
    for side, content in found.items():
        samples = read_samples(folder, "json", out / f"{side}.json")
        assert {sample.image_path.name: list(sample.captions) for sample in samples} == content


def test_pictures_that_look_the_same_are_on_one_side(pixel_llm, pictures, in_tmp_path):
    for number in range(1, 12):
        shutil.copy(pictures / "picture_00.png", pictures / f"picture_{number:02}.png")
    out = in_tmp_path / "out"
    pixel_llm("split", pictures, "--out", out, "--val", "0.45", "--test", "0.45")
    assert [len(side) for side in sides(out).values()] == [12]


def test_train_takes_them(pixel_llm, pictures, in_tmp_path):
    pixel_llm("split", pictures, "--out", "out", "--val", "0.4", "--test", "0")
    ended = pixel_llm(
        "inspect", pictures, "--manifest", "out/train.json", "--val-manifest", "out/val.json", "--json", "found.json"
    )
    assert ended.status == 0
    found = json.loads((in_tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["samples"] == 12
    assert not any(group["is_leak"] for group in found["duplicates"])


def test_a_file_that_is_there_is_not_written_over(pixel_llm, pictures, in_tmp_path):
    (in_tmp_path / "val.json").write_text("mine", encoding="utf-8")
    ended = pixel_llm("split", pictures, "--out", in_tmp_path)
    assert ended.status == 1
    assert "val.json is there already" in ended.err
    assert (in_tmp_path / "val.json").read_text(encoding="utf-8") == "mine"
    assert not (in_tmp_path / "train.json").exists()


@pytest.mark.parametrize("words", [["--val", "1"], ["--val", "0.6", "--test", "0.4"], ["--val", "-0.1"], []])
def test_wrong_usage(pixel_llm, pictures, words):
    assert pixel_llm("split", pictures, words, *(["--out", "out"] if words else [])).status == 2
