"""Pictures that cannot be read: named by an error, or left out of their batch without moving any other."""

import csv
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from systems.pixel_llm.data import ImageCaptionDataset, Sample
from systems.pixel_llm.data.collate import BadPicture
from systems.pixel_llm.errors import ConfigError, DatasetError

ROOT = Path(__file__).resolve().parents[2]
BAD_IMAGES = ROOT.parent / "shared" / "badimages"

KINDS = {
    "absent.jpg": "does not exist",
    "bomb.png": "too large",
    "empty.png": r"empty \(0 bytes\)",
    "folder.png": "is a folder",
    "loop.jpg": "cannot be opened",
    "pipe.jpg": "not a regular file",
    "text.jpg": "not a picture that can be read",
    "truncated.jpg": "cannot be decoded",
}


def noise(picture: Image.Image) -> Tensor:
    """A transform that draws: [3, 2, 2]."""
    return torch.full((3, 2, 2), random.random())


@pytest.fixture
def good(tiny_picture_folder: Callable[..., Path]) -> list[Sample]:
    """Six pictures with three captions each."""
    folder = tiny_picture_folder(count=6, text=False)
    return [
        Sample(path, tuple(f"{path.name} said {way}" for way in ("one", "two", "three")))
        for path in sorted(folder.iterdir())
    ]


@pytest.fixture
def bad(tmp_path: Path, write_bad_pictures: Callable[[Path], list[Path]]) -> list[Sample]:
    """One of each kind of file that cannot be read, each with a caption."""
    return [Sample(path, ("never seen",)) for path in write_bad_pictures(tmp_path / "bad")]


def mixed(good: Sequence[Sample], bad: Sequence[Sample]) -> list[Sample]:
    """A bad one before each good one."""
    samples: list[Sample] = []
    for number, sample in enumerate(good):
        samples += [bad[number % len(bad)], sample]
    return samples


def batches_of(samples: Sequence[Sample], *, epoch: int = 0, workers: int = 0, **settings: Any) -> list[Any]:
    dataset = ImageCaptionDataset(".", samples=samples, **{"on_bad_sample": "skip"} | settings)
    dataset.set_epoch(epoch)
    loader = DataLoader(
        dataset, batch_size=3, num_workers=workers, collate_fn=dataset.get_collate_fn(),
        multiprocessing_context="fork" if workers else None,
    )  # fmt: skip
    return list(loader)


# --- one item ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_bad_file_is_an_item_with_its_reason_or_an_error(bad: list[Sample], name: str) -> None:
    (sample,) = [sample for sample in bad if sample.image_path.name == f"bad_{name}"]
    item = ImageCaptionDataset(".", samples=[sample], image_size=(8, 8), on_bad_sample="skip")[0]
    assert isinstance(item, BadPicture)
    assert item.path == str(sample.image_path)
    with pytest.raises(DatasetError, match=rf"bad_{name}.*{KINDS[name]}.*on_bad_sample='skip' leaves such") as error:
        ImageCaptionDataset(".", samples=[sample], image_size=(8, 8))[0]
    assert str(error.value).startswith(item.reason)


def test_all_kinds_are_tested(bad: list[Sample]) -> None:
    assert [sample.image_path.name for sample in bad] == [f"bad_{name}" for name in sorted(KINDS)]


def test_a_mistake_in_the_transform_is_no_bad_picture(good: list[Sample]) -> None:
    dataset = ImageCaptionDataset(".", samples=good, transform=lambda picture: "words", on_bad_sample="skip")  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigError, match="transform must give a float tensor"):
        dataset[0]


def test_another_policy_is_refused(good: list[Sample]) -> None:
    with pytest.raises(ConfigError, match=r"on_bad_sample must be one of 'skip', 'raise', not 'skp'\. Did you mean"):
        ImageCaptionDataset(".", samples=good, on_bad_sample="skp")  # type: ignore[arg-type]


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 3])
def test_a_batch_is_smaller_by_the_bad_ones_and_the_others_are_as_they_would_be(
    good: list[Sample], bad: list[Sample], epoch: int
) -> None:
    settings: dict[str, Any] = {"transform": noise, "epoch": epoch}
    with_bad = batches_of(mixed(good, bad), **settings)
    whole = [sample for one in good for sample in (one, one)]  # a readable picture in each place
    without = batches_of(whole, **settings)
    assert [len(batch["images"]) for batch in with_bad] == [1, 2, 1, 2]
    for batch, all_read in zip(with_bad, without, strict=True):
        places = [number for number, image in enumerate(all_read["images"]) if any(map(image.equal, batch["images"]))]
        assert [all_read["captions"][place] for place in places] == batch["captions"]
        assert [all_read["image_paths"][place] for place in places] == batch["image_paths"]
        assert len(places) + len(batch["bad_pictures"]) == 3


def test_what_was_left_out_is_named_in_the_batch_and_nothing_is_where_all_is_well(
    good: list[Sample], bad: list[Sample]
) -> None:
    first, second = batches_of([good[0], bad[1], bad[0], *good[1:4]], image_size=(8, 8))
    assert [picture.path for picture in first["bad_pictures"]] == [str(bad[1].image_path), str(bad[0].image_path)]
    assert "too large" in first["bad_pictures"][0].reason
    assert set(second) == {"images", "captions", "image_paths"}


@pytest.mark.parametrize("caption_choice", ["sample", "all"])
def test_a_batch_of_which_nothing_is_left_is_empty(bad: list[Sample], caption_choice: str) -> None:
    (batch,) = batches_of(bad[:3], image_size=(8, 8), caption_choice=caption_choice)
    assert (len(batch["images"]), batch["captions"], batch["image_paths"]) == (0, [], [])
    assert len(batch["bad_pictures"]) == 3


@pytest.mark.slow  # worker processes
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("caption_choice", ["sample", "all"])
def test_workers_hand_over_the_same_batches_and_reasons(
    good: list[Sample], bad: list[Sample], caption_choice: str
) -> None:
    samples = mixed(good, bad)
    alone, shared = (
        batches_of(samples, workers=workers, transform=noise, caption_choice=caption_choice) for workers in (0, 2)
    )
    assert len(alone) == len(shared) == 4
    for one, other in zip(alone, shared, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.equal(other[key]) if isinstance(value, Tensor) else value == other[key]


# --- the corpus -------------------------------------------------------------------------------------------------------

READ_ALL = """
import csv, json, resource, sys
from pathlib import Path
from systems.pixel_llm.data import Sample, ImageCaptionDataset
from systems.pixel_llm.data.collate import BadPicture
from systems.pixel_llm.data.images import open_image

root = Path(sys.argv[1])
with (root / "expected.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
dataset = ImageCaptionDataset(
    root, samples=[Sample(root / row["file"], ("a",)) for row in rows], image_size=(64, 64), on_bad_sample="skip"
)
dataset[0]
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found, started = {}, []
STARTS = ("subprocess.Popen", "os.system", "os.fork", "os.exec", "os.posix_spawn")
sys.addaudithook(lambda event, _arguments: started.append(event) if event in STARTS else None)
for row, item in zip(rows, dataset):
    if isinstance(item, BadPicture):
        found[row["file"]] = {"reason": item.reason}
    else:
        luma = open_image(root / row["file"]).convert("L")
        histogram = luma.histogram()
        mean = sum(level * count for level, count in enumerate(histogram)) / sum(histogram)
        found[row["file"]] = {"size": luma.size, "luma": mean}
above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle
print(json.dumps({"found": found, "started": started, "above_idle_mib": above / 1024}))
"""


@pytest.mark.slow  # 742 files, the largest of 81 million pixels
@pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="needs ../shared/badimages beside the repository")
def test_every_file_of_the_corpus_loads_or_is_left_out_as_expected_within_memory() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(BAD_IMAGES)], cwd=ROOT, capture_output=True, text=True, timeout=300,
        check=True,
    )  # fmt: skip
    told = json.loads(ended.stdout)
    with (BAD_IMAGES / "expected.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(told["found"]) == len(rows) > 700
    wrong = []
    for row in rows:
        found, expect = told["found"][row["file"]], row["expect"]
        luma = row["mean_luma_on_white"] or row["mean_luma"]
        if "reason" in found:
            is_right = expect != "load" and row["file"] in found["reason"]
        elif expect == "load":
            is_right = found["size"] == [int(row["width"]), int(row["height"])]
            is_right = is_right and (not luma or abs(found["luma"] - float(luma)) <= 6)
        else:
            is_right = expect == "either"
        if not is_right:
            wrong.append((row["file"], expect, found))
    assert wrong == []
    assert told["started"] == [], "no other program is asked for help"
    assert told["above_idle_mib"] < 512
