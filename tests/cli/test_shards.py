"""Pictures in larger files by naming the folder alone: train, inspect and split on tar shards and Parquet tables."""

import json
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from systems.pixel_llm.cli.options import TrainCommand, parse_train
from systems.pixel_llm.cli.train import read_data
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.errors import DatasetError

DEVICE = ["--device", "cpu"]


def sides_of(command: TrainCommand) -> tuple[Sequence[Sample], Sequence[Sample]]:
    sides = read_data(command)
    return sides.train, sides.validation


def write_tar(path: Path, pictures: list[Path]) -> None:
    with tarfile.open(path, "w") as archive:
        for picture in pictures:
            archive.add(picture, picture.name)
            archive.add(picture.with_suffix(".txt"), picture.with_suffix(".txt").name)


def write_table(path: Path, pictures: list[Path]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
    from pyarrow import parquet

    captions = [picture.with_suffix(".txt").read_text() for picture in pictures]
    parquet.write_table(pyarrow.table({"image": [each.read_bytes() for each in pictures], "text": captions}), path)


@pytest.fixture
def paths(in_tmp_path: Path) -> list[Path]:
    """Twelve captioned pictures, of which no two look the same."""
    Path("loose").mkdir()
    paths = [Path(f"loose/{number:02}.png") for number in range(12)]
    for number, path in enumerate(paths):
        Image.frombytes("RGB", (40, 40), random.Random(number).randbytes(4800)).save(path)
        path.with_suffix(".txt").write_text(f"a carpet with the pattern {number}")
    return paths


@pytest.fixture(params=["tar", "parquet"])
def shards(request: pytest.FixtureRequest, paths: list[Path]) -> Path:
    """The pictures in two shards, eight to train on and four for later."""
    folder = Path("shards")
    folder.mkdir()
    write = write_tar if request.param == "tar" else write_table
    write(folder / f"train-000.{request.param}", paths[:8])
    write(folder / f"val-000.{request.param}", paths[8:])
    return folder


def test_train(pixel_llm, shards):
    words = ["--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
             "--batch-size", "4", "--num-workers", "0", "--max-steps", "1", *DEVICE]  # fmt: skip
    ended = pixel_llm("train", shards, words, "--out", "run")
    assert ended.status == 0
    assert "2 files, divided by their names: 8 train, 4 dev" in ended.err
    assert "8 pictures to train on, 4 to validate on" in ended.err
    assert Path("run/samples.png").is_file()


def test_one_shard_to_train_and_one_to_validate_on(shards):
    train_file, val_file = sorted(shards.iterdir())
    words = ["--manifest", str(train_file), "--val-manifest", str(val_file), *DEVICE]
    assert [len(side) for side in sides_of(parse_train([str(shards), *words]))] == [8, 4]
    with pytest.raises(DatasetError, match="8 pictures are in the training and in the validation data"):
        read_data(parse_train([str(shards), "--manifest", str(train_file), "--val-manifest", str(train_file), *DEVICE]))


def test_a_folder_for_validation_inside_the_data(shards):
    (shards / "later").mkdir()
    val_file = sorted(shards.iterdir())[2]
    val_file.rename(shards / "later" / val_file.name.replace("val", "x"))
    train, val = sides_of(parse_train([str(shards), "--val", str(shards / "later"), *DEVICE]))
    assert (len(train), len(val)) == (8, 4)


def test_inspect(pixel_llm, shards):
    ended = pixel_llm("inspect", shards, "--json", "found.json", "--html", "page.html")
    assert ended.status == 0
    found = json.loads(Path("found.json").read_text())
    assert (found["train_samples"], found["validation_samples"]) == (8, 4)
    assert (found["bad"], found["odd"], found["pictures_without_captions"]) == ([], [], [])
    assert Path("page.html").read_text().count("data:image/jpeg") >= 12


def test_inspect_tells_what_has_no_partner_inside_a_shard(pixel_llm, paths):
    paths[0].with_suffix(".txt").write_text(" ")
    Path("shards").mkdir()
    write_tar(Path("shards/0.tar"), paths)
    with tarfile.open("shards/0.tar", "a") as archive:
        archive.add(paths[1], "alone.png")
        archive.add(paths[1].with_suffix(".txt"), "said.txt")
    pixel_llm("inspect", "shards", "--json", "found.json")
    found = json.loads(Path("found.json").read_text())
    assert sorted(found["pictures_without_captions"]) == ["shards/0.tar/00.png", "shards/0.tar/alone.png"]
    assert found["captions_without_pictures"] == ["shards/0.tar/said.txt"]


def test_split_writes_what_train_takes(pixel_llm, shards):
    ended = pixel_llm("split", shards, "--out", "out", "--val", "0.3", "--test", "0")
    assert ended.status == 0
    sides = [json.loads(Path(f"out/{side}.json").read_text()) for side in ("train", "val")]
    assert sum(map(len, sides)) == 12
    words = ["--manifest", "out/train.json", "--val-manifest", "out/val.json", *DEVICE]
    for samples, side in zip(sides_of(parse_train([str(shards), *words])), sides, strict=True):
        assert sorted(str(sample.image_path) for sample in samples) == sorted(f"shards/{name}" for name in side)
