"""The inspection as a whole: copies, leaks, what is bad, and the checks that say whether training should start."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from systems.pixel_llm.data.duplicates import find_duplicates
from systems.pixel_llm.data.inspection import inspect_samples
from systems.pixel_llm.data.inspection_checks import check_inspection
from systems.pixel_llm.data.inspection_pictures import scan_pictures
from systems.pixel_llm.data.samples import Sample, read_folder
from systems.pixel_llm.data.unpaired import UnpairedFiles, find_unpaired


def photograph(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


def write_photographs(folder: Path, count: int) -> list[Sample]:
    samples = []
    for seed in range(count):
        photograph(seed).save(folder / f"{seed:04}.jpg")
        samples.append(Sample(folder / f"{seed:04}.jpg", (f"A sentence about the picture with number {seed}",)))
    return samples


def statuses(inspection, **options):
    return {check.name: check.status for check in check_inspection(inspection, **options)}


def test_copies_and_likenesses_are_told_apart(tmp_path):
    samples = write_photographs(tmp_path, 6)
    shutil.copy(tmp_path / "0000.jpg", tmp_path / "copy.jpg")
    photograph(1).resize((80, 60)).save(tmp_path / "small.png")
    paths = [sample.image_path for sample in samples] + [tmp_path / "copy.jpg", tmp_path / "small.png"]
    copies, likenesses = find_duplicates(scan_pictures(paths))
    assert [path.name for path in copies.paths] == ["0000.jpg", "copy.jpg"]
    assert (copies.is_exact, copies.num_copies, copies.is_leak) == (True, 1, False)
    assert [path.name for path in likenesses.paths] == ["0001.jpg", "small.png"]
    assert (likenesses.is_exact, likenesses.num_copies, likenesses.copied_paths) == (False, 0, ())


def test_copies_are_known_among_pictures_that_look_the_same(tmp_path):
    photograph(1).save(tmp_path / "1.png")
    photograph(1).resize((80, 60)).save(tmp_path / "2.png")
    shutil.copy(tmp_path / "1.png", tmp_path / "3.png")
    (group,) = find_duplicates(scan_pictures([tmp_path / f"{number}.png" for number in (2, 1, 3)]))
    assert (group.is_exact, group.num_copies) == (False, 1)
    assert [path.name for path in group.copied_paths] == ["1.png", "3.png"]


def test_a_likeness_on_the_other_side_of_the_split_is_a_leak(tmp_path):
    train = write_photographs(tmp_path, 12)
    photograph(3).resize((80, 60)).save(tmp_path / "again.png")
    photograph(99).save(tmp_path / "other.png")
    validation = [Sample(tmp_path / name, ("Something else to say",)) for name in ("again.png", "other.png")]
    inspection = inspect_samples(train, validation, image_size=64)
    (leak,) = inspection.leaks
    assert {path.name for path in leak.paths} == {"0003.jpg", "again.png"}
    assert [path.name for path in leak.validation_paths] == ["again.png"]
    (check,) = [check for check in check_inspection(inspection) if check.name == "validation"]
    assert check.status == "warn"
    assert "1 of 2 validation pictures (50 %)" in check.found
    assert statuses(inspect_samples(train, validation[1:], image_size=64))["validation"] == "ok"


def test_one_file_on_both_sides_stops_as_train_does(tmp_path):
    samples = write_photographs(tmp_path, 4)
    assert statuses(inspect_samples(samples, samples[:1]))["validation"] == "stop"


def test_a_sound_set_passes_every_check(tmp_path):
    few = write_photographs(tmp_path, 10)
    found = statuses(inspect_samples(few, image_size=64))
    assert found.pop("number of pictures") == "warn"
    assert set(found.values()) == {"ok"}


def test_a_thousand_pictures_are_enough(tmp_path):
    (sample,) = write_photographs(tmp_path, 1)
    samples = []
    for place in range(1000):
        link = tmp_path / f"link_{place}.jpg"
        link.hardlink_to(sample.image_path)
        samples.append(Sample(link, (f"caption number {place} of a thousand",)))
    inspection = inspect_samples(samples)
    assert statuses(inspection)["number of pictures"] == "ok"
    assert statuses(inspect_samples(samples[1:]))["number of pictures"] == "warn"
    (group,) = inspection.duplicates
    assert group.num_copies == 999


@pytest.mark.parametrize(
    ("count", "bad", "status"),
    [(100, 0, "ok"), (200, 2, "warn"), (100, 2, "stop"), (20, 1, "warn"), (20, 20, "stop"), (1, 1, "stop")],
)
def test_too_many_unreadable_pictures_stop(tmp_path, count, bad, status):
    samples = write_photographs(tmp_path, count)
    for sample in samples[:bad]:
        sample.image_path.write_bytes(b"no picture")
    inspection = inspect_samples(samples)
    assert [each.path for each in inspection.bad] == [sample.image_path for sample in samples[:bad]]
    assert statuses(inspection)["readable pictures"] == status


def test_the_other_warnings(tmp_path):
    samples = [Sample(sample.image_path, ("dog",)) for sample in write_photographs(tmp_path, 20)]
    photograph(50, (400, 40)).save(tmp_path / "strip.jpg")
    samples.append(Sample(tmp_path / "strip.jpg", ("cat",)))
    inspection = inspect_samples(
        samples, image_size=224, max_seq_len=2, unpaired=UnpairedFiles((tmp_path / "x.jpg",), ("y.txt",))
    )
    checks = {check.name: check for check in check_inspection(inspection)}
    for name in (
        "number of pictures", "picture sizes", "odd pictures", "pairs", "caption quality", "caption variety",
        "caption length", "max_seq_len",
    ):  # fmt: skip
        assert checks[name].status == "warn", name
        assert checks[name].advice, name
    assert "--image-size 112." in checks["picture sizes"].advice
    assert "--max-seq-len 16" in checks["max_seq_len"].advice
    assert checks["pairs"].found == "1 picture without a caption, 1 caption without a picture"


def test_nothing_to_train_on_stops():
    assert statuses(inspect_samples([])) == {"data": "stop"}
    (check,) = check_inspection(inspect_samples([]), problem="There is no such folder.")
    assert (check.status, check.found) == ("stop", "There is no such folder.")


def test_the_record_can_be_written_as_json(tmp_path):
    samples = write_photographs(tmp_path, 4)
    samples[0].image_path.write_bytes(b"")
    photograph(1).resize((80, 60)).save(tmp_path / "small.png")
    samples.append(Sample(tmp_path / "small.png", ("IMG_1.JPG",)))
    found = json.loads(json.dumps(inspect_samples(samples[:4], samples[4:]).to_dict()))
    assert (found["samples"], found["train_samples"], found["validation_samples"]) == (5, 4, 1)
    assert found["bad"] == [
        {"path": str(tmp_path / "0000.jpg"), "reason": "is empty (0 bytes). Replace it, or take it out of the data."}
    ]
    (group,) = found["duplicates"]
    assert group["is_leak"]
    assert group["validation_paths"] == [str(tmp_path / "small.png")]
    assert found["captions"]["suspects"][0]["why"] == "is the file's name"
    assert found["sizes"]["num_smaller"] == 4


@pytest.fixture
def half_paired(tmp_path) -> Path:
    folder = tmp_path / "half"
    (folder / "below").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("a.jpg", "b.JPG", "below/c.png", ".hidden/d.png"):
        photograph(1).save(folder / name, format="PNG")
    for name in ("a.txt", "lone.txt", "below/lone.txt"):
        (folder / name).write_text("a caption", encoding="utf-8")
    (folder / "manifest.json").write_text(
        json.dumps({"a.jpg": "a caption", "gone.jpg": "another", "b.JPG": ""}),
        encoding="utf-8",
    )
    return folder


@pytest.mark.parametrize(
    ("caption_format", "lone_captions"), [("text", ["below/lone.txt", "lone.txt"]), ("json", ["gone.jpg"])]
)
def test_what_has_no_partner_is_found(half_paired, caption_format, lone_captions):
    reading = read_folder(half_paired, caption_format)
    used = [sample.image_path for sample in reading.samples]
    assert used == [half_paired / "a.jpg"]
    found = find_unpaired(half_paired, used, passed_over=reading.passed_over)
    assert sorted(found.pictures) == [half_paired / "b.JPG", half_paired / "below" / "c.png"]
    assert sorted(found.captions) == lone_captions


def test_a_folder_that_is_not_there_has_nothing_unpaired(tmp_path):
    assert find_unpaired(tmp_path / "absent", [], passed_over={}) == UnpairedFiles()
