"""`pixel-llm caption`: one line and one tab a picture, whatever the files are called and whichever cannot be read."""

import json
import os
import shutil
from pathlib import Path

import pytest

from systems.pixel_llm.cli.lines import escaped, one_line


def test_a_line_a_picture_in_the_order_given(pixel_llm, trained_run, pictures):
    paths = sorted(pictures.glob("*.png"), reverse=True)[:5]
    ended = pixel_llm("caption", trained_run, paths, "--batch-size", 2, "--max-length", 6)
    assert (ended.status, ended.err) == (0, "")
    assert [line.split("\t")[0] for line in ended.lines] == [str(path) for path in paths]
    assert all(line.count("\t") == 1 for line in ended.lines)


def test_the_best_checkpoint_of_a_run_is_taken(pixel_llm, trained_run, pictures):
    losses = {
        record["step"]: record["loss"]
        for record in map(json.loads, (trained_run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        if record["kind"] == "validation"
    }
    best_step = min(losses, key=losses.__getitem__)
    others = [
        path
        for path in (trained_run / "checkpoints").iterdir()
        if json.loads((path / "training_state.json").read_text(encoding="utf-8"))["training_state"]["state"]["step"]
        != best_step
    ]
    assert others
    for path in others:
        shutil.rmtree(path)
    (best,) = (trained_run / "checkpoints").iterdir()
    picture = next(pictures.glob("*.png"))
    assert pixel_llm("caption", best, picture).out == pixel_llm("caption", trained_run, picture).out


def test_a_checkpoint_may_be_named_directly(pixel_llm, trained_run, pictures):
    checkpoint = next((trained_run / "checkpoints").iterdir())
    ended = pixel_llm("caption", checkpoint, next(pictures.glob("*.png")))
    assert (ended.status, len(ended.lines)) == (0, 1)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_bad_picture_is_told_and_the_others_are_captioned(pixel_llm, trained_run, pictures, batch_size):
    good = sorted(pictures.glob("*.png"))[:2]
    bad = pictures / "bad.png"
    bad.write_bytes(good[0].read_bytes()[:80])
    os.mkfifo("pipe.png")
    ended = pixel_llm(
        "caption", trained_run, good[0], bad, "absent.png", "pipe.png", good[1], "--batch-size", batch_size
    )  # fmt: skip
    assert ended.status == 1
    assert [line.split("\t")[0] for line in ended.lines] == [str(path) for path in good]
    told = ended.err.splitlines()
    assert told[0] == "pixel-llm: 3 pictures could not be captioned:"
    assert "bad.png cannot be decoded" in told[1]
    assert "absent.png does not exist" in told[2]
    assert "pipe.png is not a regular file" in told[3]
    assert len(told) == 4


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("with space.png", "with space.png"),
        ("grün 漢字.png", "grün 漢字.png"),
        ("tab\tin name.png", "tab\\tin name.png"),
        ("line\nend.png", "line\\nend.png"),
        ("back\\slash.png", "back\\slash.png"),
    ],
)
def test_any_name_is_one_field_of_one_line(pixel_llm, trained_run, pictures, name, shown):
    shutil.copy(next(pictures.glob("*.png")), name)
    ended = pixel_llm("caption", trained_run, name)
    assert ended.status == 0
    (line,) = ended.out.split("\n")[:-1]
    assert line.split("\t")[0] == shown
    assert line.count("\t") == 1


def test_a_name_that_begins_with_a_dash_follows_two(pixel_llm, trained_run, pictures):
    shutil.copy(next(pictures.glob("*.png")), "-x.png")
    assert pixel_llm("caption", trained_run, "--", "-x.png").out.startswith("-x.png\t")


def test_a_length_beyond_the_models_is_wrong_usage(pixel_llm, trained_run, pictures):
    picture = next(pictures.glob("*.png"))
    ended = pixel_llm("caption", trained_run, picture, "--max-length", 1000)
    assert (ended.status, ended.out) == (2, "")
    assert "max_seq_len=128, not 1000" in ended.err


@pytest.mark.parametrize("run", ["absent", "pictures", "pictures/picture_00.png"])
def test_what_is_no_run_is_refused_by_name(pixel_llm, pictures, run):
    ended = pixel_llm("caption", run, "pictures/picture_00.png")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"pixel-llm: {run}")
    assert len(ended.err.splitlines()) == 1


def test_a_damaged_checkpoint_is_refused(pixel_llm, trained_run, pictures):
    checkpoint = next((trained_run / "checkpoints").iterdir())
    (checkpoint / "model.safetensors").write_bytes(b"not weights")
    ended = pixel_llm("caption", checkpoint, "pictures/picture_00.png")
    assert (ended.status, ended.out) == (1, "")
    assert str(checkpoint) in ended.err


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_wrong_usage(pixel_llm, trained_run, device):
    ended = pixel_llm("caption", trained_run, "pictures/picture_00.png", "--device", device)
    assert ended.status == 2
    assert ended.err.startswith(f"pixel-llm: --device {device}: ")


def test_what_would_steer_a_terminal_is_shown_escaped():
    assert one_line("  a\tred \n square\x1b[31m\u2028 ") == "a red square\\x1b[31m"
    assert escaped("a\u2028b\x07\x00") == "a\\u2028b\\x07\\x00"
    assert escaped("plain, grün, 漢字\u200d") == "plain, grün, 漢字\u200d"


def test_paths_are_given_back_as_they_were_typed(pixel_llm, trained_run, pictures):
    assert pixel_llm("caption", trained_run, Path("./pictures/../pictures/picture_01.png")).out.startswith(
        "pictures/../"
    )
