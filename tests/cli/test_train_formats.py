"""`pixel-llm train` on the formats people have: what is read, what is told, and which pictures are validated on."""

import json
import shutil
from pathlib import Path

import pytest

from systems.pixel_llm.cli.options import parse_train
from systems.pixel_llm.cli.train import read_data
from systems.pixel_llm.errors import ConfigError, DatasetError

TINY = [
    "--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
    "--batch-size", "4", "--precision", "fp32", "--num-workers", "0", "--device", "cpu",
]  # fmt: skip
DEVICE = ["--device", "cpu"]


@pytest.fixture
def tokens(pictures: Path) -> Path:
    """The twelve pictures as Flickr8k has them: a token file, and lists of eight to train on and three for later."""
    names = sorted(path.name for path in pictures.glob("*.png"))
    for path in pictures.glob("*.txt"):
        path.unlink()
    lines = [f"{name}#{number}\ta square , {number}\n" for name in names for number in range(2)]
    (pictures / "Flickr8k.token.txt").write_text("".join(lines))
    for part, some in (("train", names[:8]), ("dev", names[8:10]), ("test", names[10:11])):
        (pictures / f"Flickr_8k.{part}Images.txt").write_text("\n".join(some) + "\n")
    return pictures


def divided(*words):
    """(training, validation) samples of a command line."""
    sides = read_data(parse_train([str(word) for word in words] + DEVICE))
    return sides.train, sides.validation


def names_of(samples) -> list[str]:
    return [sample.image_path.name for sample in samples]


def test_the_lists_beside_a_token_file_say_what_to_train_and_to_validate_on(pixel_llm, tokens):
    ended = pixel_llm("train", tokens, TINY, "--max-steps", 1, "--out", "run")
    assert ended.status == 0
    assert (
        "pictures read as: Flickr8k tokens, Flickr8k.token.txt, divided by the lists beside it: 8 train, 2 dev, 1 test"
        in ended.err
    )
    assert "8 pictures to train on, 2 to validate on" in ended.err
    assert "Tokenizer fitted to 16 captions" in ended.err


def test_other_validation_data_leaves_the_train_list_in_force(tokens):
    (tokens / "val.json").write_text(json.dumps({"picture_11.png": "a square"}))
    train, val = divided(tokens, "--val-manifest", "val.json")
    assert (len(train), names_of(val)) == (8, ["picture_11.png"])


def test_without_a_dev_list_a_part_of_the_train_list_is_held_back(tokens):
    (tokens / "Flickr_8k.devImages.txt").unlink()
    train, val = divided(tokens, "--validation-fraction", "0.3")
    assert val
    assert sorted(names_of(train) + names_of(val)) == [f"picture_{number:02}.png" for number in range(8)]


def test_repeats_of_folders_are_told(pixel_llm, pictures):
    shutil.move(pictures, "data/7_squares")
    ended = pixel_llm("train", "data", TINY, "--max-steps", 1, "--out", "run")
    assert ended.status == 0
    assert "data read as: kohya folders, 7_squares; N is not used as a weight" in ended.err


def test_other_readings_are_told_and_a_format_can_be_named(pixel_llm, pictures):
    rows = "".join(f"{path.name},a square\n" for path in sorted(pictures.glob("*.png"))[:6])
    (pictures / "x.csv").write_text("what,said\n" + rows)
    columns = ["--image-column", "what", "--caption-column", "said"]
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 1, "--out", "run")
    assert (
        "pictures read as: text files beside the pictures (also there, and not used: table, x.csv (gives no captions))"
        in (ended.err)
    )
    ended = pixel_llm("train", pictures, TINY, "--format", "csv", columns, "--max-steps", 1, "--out", "named")
    assert ended.status == 0
    assert "pictures read as: table, x.csv\n" in ended.err
    # A resume takes them from the options of the run.
    ended = pixel_llm("train", pictures, "--out", "named", "--resume", "--max-steps", 2)
    assert ended.status == 0
    assert "pictures read as: table, x.csv\n" in ended.err


def test_a_folder_for_validation_inside_the_data_is_not_trained_on(pictures):
    (pictures / "sub" / "val").mkdir(parents=True)
    for path in [*pictures.glob("picture_0[0-2].*")]:
        path.rename(pictures / "sub" / "val" / path.name)
    for data in (pictures, pictures.resolve()):
        train, val = divided(data, "--val", "pictures/sub/val")
        assert (len(train), len(val)) == (9, 3)
    with pytest.raises(DatasetError, match="3 pictures are in the training and in the validation data"):
        divided("pictures/sub/val", "--val", "pictures/sub")


def test_a_caption_a_line(pictures):
    for path in pictures.glob("*.txt"):
        path.write_text("a square\none square\n")
    train, val = divided(pictures, "--captions-per-file", "lines")
    assert {len(sample.captions) for sample in (*train, *val)} == {2}


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--format", "csv"], DatasetError, r"looked for a \.csv or \.tsv table"),
        (["--format", "text", "--caption-column", "x"], ConfigError, r"caption_column='x' means something to"),
        (["--format", "text", "--manifest", "x.json"], ConfigError, r"manifest_file='x\.json' names a file"),
        (["--image-column", "x"], DatasetError, r"looked for a \.jsonl file .*metadata\.parquet; Parquet"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_data(pictures, words, error, message):
    with pytest.raises(error, match=message):
        divided(pictures, *words)


def test_an_unknown_format_is_wrong_usage(pixel_llm, pictures):
    ended = pixel_llm("train", pictures, "--format", "excel")
    assert ended.status == 2
    assert "flickr8k" in ended.err


REAL = {
    "lora_mickey1928": (132, None),
    "emoji_noto": (2574, None),
    "coco_mini_val": (50, None),
    "flickr8k_part": (3250, (3000, 250)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data_by_naming_the_folder(shared_data, name):
    train, val = divided(shared_data / name)
    total, split = REAL[name]
    assert len(train) + len(val) == total
    assert split in (None, (len(train), len(val)))
    assert val


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_training_on_real_data_by_naming_the_folder(pixel_llm, shared_data, in_tmp_path, name):
    ended = pixel_llm("train", shared_data / name, TINY, "--max-steps", 2, "--out", "run")
    assert ended.status == 0
    assert Path("run/samples.png").is_file()
