"""`pixel-llm train` on data with pictures that cannot be read: the list it leaves and where it stops."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from systems.pixel_llm.cli.bad_pictures import BadPictureList
from systems.pixel_llm.data import open_image
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.training.events import BadPictureEvent, RunStartEvent

ROOT = Path(__file__).resolve().parents[2]
BAD_IMAGES = ROOT.parent / "shared" / "badimages"

TINY = [
    "--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
    "--batch-size", "4", "--precision", "fp32", "--num-workers", "0",
]  # fmt: skip
PLACE = {
    "epoch": 0,
    "step": 0,
    "samples_seen": 0,
    "elapsed_seconds": 0.0,
    "progress": 0.0,
    "total_steps": None,
    "num_epochs": None,
}


def told(path, reason="it is empty"):
    return BadPictureEvent(path=path, reason=reason, **PLACE)


def listed(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def damage(pictures, *numbers):
    for number in numbers:
        path = pictures / f"picture_{number:02}.png"
        path.write_bytes(path.read_bytes()[:80])


# --- the list ---------------------------------------------------------------------------------------------------------


def test_each_picture_is_listed_once_also_after_a_resume(tmp_path):
    path = tmp_path / "bad_pictures.jsonl"
    first = BadPictureList(path, num_pictures=10, max_share=1.0)
    first(RunStartEvent(**PLACE))
    assert not path.exists()
    first(told("a.png"))
    first(told("b.png", "b.png is text"))
    resumed = BadPictureList(path, num_pictures=10, max_share=1.0)
    resumed(told("b.png"))
    resumed(told("c.png"))
    assert [each["path"] for each in listed(path)] == ["a.png", "b.png", "c.png"]
    assert listed(path)[1] == {"path": "b.png", "reason": "b.png is text"}


def test_names_that_are_no_text_and_a_torn_line_do_no_harm(tmp_path):
    path = tmp_path / "bad_pictures.jsonl"
    path.write_bytes(b'{"path": "torn')
    BadPictureList(path, num_pictures=10, max_share=1.0)(told("na\udcefve.png"))
    assert path.read_bytes().splitlines()[1:] == [b'{"path": "na\\udcefve.png", "reason": "it is empty"}']
    again = BadPictureList(path, num_pictures=10, max_share=1.0)
    again(told("na\udcefve.png"))
    assert len(path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("num_pictures", "max_share", "stops_at"),
    [(10, 0.01, 2), (200, 0.01, 3), (10, 0.3, 4), (10, 0.0, 2), (10, 1.0, None)],
)
def test_it_stops_above_the_share_and_never_at_a_single_one(tmp_path, num_pictures, max_share, stops_at):
    bad_pictures = BadPictureList(tmp_path / "list", num_pictures=num_pictures, max_share=max_share)
    for number in range(1, 11):
        if number == stops_at:
            with pytest.raises(DatasetError, match=rf"{number} of the {num_pictures} pictures .* --max-bad-share"):
                bad_pictures(told(f"{number}.png"))
            break
        bad_pictures(told(f"{number}.png"))
    assert len(listed(tmp_path / "list")) == (stops_at or 10)


# --- the command ------------------------------------------------------------------------------------------------------


def test_bad_pictures_are_left_out_listed_and_told(pixel_llm, pictures):
    damage(pictures, 3, 7)
    ended = pixel_llm("train", pictures, TINY, "--epochs", 2, "--max-bad-share", "0.2", "--out", "run")
    assert ended.status == 0
    assert {each["path"] for each in listed(Path("run/bad_pictures.jsonl"))} == {
        "pictures/picture_03.png", "pictures/picture_07.png",
    }  # fmt: skip
    assert ended.err.count("warning: Left out: pictures/picture_03.png cannot be decoded") == 1
    assert "2 pictures could not be read and were left out: run/bad_pictures.jsonl lists them." in ended.err


def test_too_many_end_the_run_with_the_list_and_the_flag_named(pixel_llm, pictures):
    damage(pictures, *range(12))
    ended = pixel_llm("train", pictures, TINY, "--epochs", 1, "--out", "run")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines()[-1].startswith("pixel-llm: 12 of the 12 pictures cannot be read: more than")
    assert "run/bad_pictures.jsonl" in ended.err.splitlines()[-1]
    assert len({each["path"] for each in listed(Path("run/bad_pictures.jsonl"))}) == 12
    assert not Path("run/metrics.jsonl").exists()  # seen before the first step


def test_nothing_bad_leaves_no_list(trained_run):
    assert not (trained_run / "bad_pictures.jsonl").exists()


def test_a_resumed_run_lists_none_twice(pixel_llm, pictures):
    damage(pictures, 3, 7)
    words = ["train", pictures, TINY, "--max-bad-share", "0.2", "--out", "run"]
    pixel_llm(*words, "--epochs", 1)
    first = listed(Path("run/bad_pictures.jsonl"))
    ended = pixel_llm(*words, "--epochs", 2, "--resume")
    assert ended.status == 0
    assert listed(Path("run/bad_pictures.jsonl")) == first


def test_all_captions_at_once(pixel_llm, pictures):
    captions = {path.name: [f"one view of {path.stem}", "another"] for path in sorted(pictures.glob("*.png"))}
    (pictures / "manifest.json").write_text(json.dumps(captions), encoding="utf-8")
    ended = pixel_llm(
        "train", pictures, TINY, "--caption-choice", "all", "--max-steps", 2, "--log-interval", 1, "--out", "run"
    )  # fmt: skip
    assert ended.status == 0
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [record for record in records if record["kind"] == "train"]
    assert trained[0]["captions_per_second"] == pytest.approx(2 * trained[0]["images_per_second"])
    assert 'caption_choice = "all"' in Path("run/options.toml").read_text(encoding="utf-8")


@pytest.mark.slow  # 742 files, the largest of 81 million pixels
@pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="needs ../shared/badimages beside the repository")
def test_a_run_over_the_whole_corpus_ends_well_and_lists_exactly_the_rejected(pixel_llm, in_tmp_path):
    with (BAD_IMAGES / "expected.csv").open(newline="") as file:
        expected = {row["file"]: row["expect"] for row in csv.DictReader(file)}
    for name in expected:
        Path("data", name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(BAD_IMAGES / name, Path("data", name))
    manifest = json.dumps({name: f"a picture, {expect}" for name, expect in expected.items()})
    Path("data/manifest.json").write_text(manifest, encoding="utf-8")
    ended = pixel_llm("train", "data", TINY, "--epochs", 1, "--max-bad-share", 1, "--out", "run")
    assert ended.status == 0
    paths = [Path(each["path"]).relative_to("data").as_posix() for each in listed(Path("run/bad_pictures.jsonl"))]
    assert len(set(paths)) == len(paths)
    assert {expected[name] for name in expected.keys() - set(paths)} == {"load", "either"}
    assert all(expected[name] != "load" for name in paths)
    # Where both are right, the run decides as the reader does.
    for name in (name for name, expect in expected.items() if expect == "either"):
        assert (name in paths) == (not can_be_read(Path("data", name))), name


def can_be_read(path):
    try:
        open_image(path, at_least=(32, 32))
    except DatasetError:
        return False
    return True
