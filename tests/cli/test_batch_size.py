"""`pixel-llm train --batch-size auto`: found once, written down, and the same again when the run goes on."""

import tomllib
from pathlib import Path

import pytest
from safetensors.torch import load_file

TINY = [
    "--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
    "--precision", "fp32", "--num-workers", "0",
]  # fmt: skip


def options(run):
    return tomllib.loads(Path(run, "options.toml").read_text(encoding="utf-8"))


def test_the_size_found_is_the_run_s_own(pixel_llm, pictures):
    auto = pixel_llm("train", pictures, TINY, "--batch-size", "auto", "--max-steps", 1, "--out", "auto")
    assert auto.status == 0
    assert "batch_size auto: 8, so that " in auto.err
    assert options("auto")["batch_size"] == 8
    again = pixel_llm("train", pictures, TINY, "--batch-size", "auto", "--max-steps", 2, "--out", "auto", "--resume")
    assert again.status == 0
    assert "batch_size auto: 8, as found when the run was begun" in again.err
    assert options("auto")["batch_size"] == 8


@pytest.mark.slow
def test_the_search_leaves_no_trace_in_what_is_learned(pixel_llm, pictures):
    for size in ("auto", "8"):
        assert pixel_llm("train", pictures, TINY, "--batch-size", size, "--max-steps", 2, "--out", size).status == 0
    one, other = (load_file(Path(run, "checkpoints/epoch_1/model.safetensors")) for run in ("auto", "8"))
    assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize("wrong", ["some", "2.5"])
def test_another_word_is_refused_and_told(pixel_llm, pictures, wrong):
    ended = pixel_llm("train", pictures, "--batch-size", wrong)
    assert ended.status == 2
    assert "a whole number or auto" in ended.err


def test_a_settings_file_may_say_it_too(pixel_llm, pictures):
    Path("settings.toml").write_text('batch_size = "auto"\n', encoding="utf-8")
    ended = pixel_llm("train", pictures, TINY, "--config", "settings.toml", "--max-steps", 1, "--out", "run")
    assert ended.status == 0
    assert options("run")["batch_size"] == 8
    Path("settings.toml").write_text("batch_size = 0\n", encoding="utf-8")
    ended = pixel_llm("train", pictures, "--config", "settings.toml")
    assert ended.status == 2
    assert "batch_size must be a whole number at least 1 or 'auto', not 0." in ended.err
