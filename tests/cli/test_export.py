"""`pixel-llm export`: the folder captions as its run does, the card tells the run, and mistakes are told by name."""

import json
import shutil

import pytest

FILES = {"README.md", "config.json", "model.safetensors", "preprocessing.json", "tokenizer.json"}


def captions_of(pixel_llm, model, pictures):
    return pixel_llm("caption", model, sorted(pictures.glob("*.png")), "--max-length", 8).out


def test_the_exported_folder_captions_as_the_run_does(pixel_llm, trained_run, pictures):
    ended = pixel_llm("export", trained_run, "given/mine")
    assert (ended.status, ended.err) == (0, "")
    assert {path.name for path in pictures.parent.joinpath("given/mine").iterdir()} == FILES
    assert ended.lines[0].startswith("model: given/mine (checkpoint ")
    assert "to caption: pixel-llm caption given/mine PICTURE..." in ended.lines
    assert captions_of(pixel_llm, "given/mine", pictures) == captions_of(pixel_llm, trained_run, pictures) != ""


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_the_size_loads_too(pixel_llm, trained_run, pictures, dtype):
    whole, half = (
        pixel_llm("export", trained_run, name, "--dtype", kind) for name, kind in (("a", "fp32"), ("b", dtype))
    )
    assert half.lines[2].endswith(f"rounded to {dtype}")
    sizes = [pictures.parent.joinpath(name, "model.safetensors").stat().st_size for name in "ab"]
    assert 0.5 < sizes[1] / sizes[0] < 0.6
    assert whole.status == half.status == 0
    assert len(captions_of(pixel_llm, "b", pictures).splitlines()) == 12


def test_the_card_tells_what_the_run_was_trained_on(pixel_llm, trained_run, pictures):
    pixel_llm("export", trained_run, "mine", "--license", "cc0-1.0", "--language", "en")
    card = pictures.parent.joinpath("mine/README.md").read_text(encoding="utf-8")
    record = json.loads((trained_run / "data.json").read_text(encoding="utf-8"))
    told = f"{record['num_train_pictures']} pictures with {record['num_train_captions']} captions to train on"
    assert record["num_train_pictures"] + record["num_validation_pictures"] == 12
    assert told in card
    assert card.startswith('---\nlicense: "cc0-1.0"\nlanguage:\n- "en"\n')
    assert "Data folder: “pictures”." in card
    assert str(pictures.resolve().parent) not in card


def test_another_checkpoint_can_be_named(pixel_llm, trained_run):
    names = sorted(path.name for path in (trained_run / "checkpoints").iterdir())
    assert len(names) > 1
    for name in names:
        assert f"(checkpoint {name}, " in pixel_llm("export", trained_run, f"out_{name}", "--checkpoint", name).out
    ended = pixel_llm("export", trained_run, "other", "--checkpoint", names[0] + "x")
    assert ended.status == 1
    assert f"Did you mean {names[0]!r}?" in ended.err


def test_a_checkpoint_itself_can_be_exported_but_has_none_to_choose(pixel_llm, trained_run):
    checkpoint = next((trained_run / "checkpoints").iterdir())
    assert pixel_llm("export", checkpoint, "mine").status == 0
    ended = pixel_llm("export", checkpoint, "other", "--checkpoint", "step_1")
    assert ended.status == 2
    assert "is one model" in ended.err


def test_nothing_is_replaced_unasked(pixel_llm, trained_run, pictures):
    pixel_llm("export", trained_run, "mine")
    ended = pixel_llm("export", trained_run, "mine")
    assert ended.status == 1
    assert "Add --overwrite to replace it" in ended.err
    assert pixel_llm("export", trained_run, "mine", "--overwrite").status == 0
    ended = pixel_llm("export", trained_run, pictures, "--overwrite")
    assert ended.status == 1
    assert "is no part of an exported model" in ended.err
    assert len(list(pictures.glob("*.png"))) == 12


@pytest.mark.parametrize(
    ("words", "status", "wanted"),
    [
        (["absent", "mine"], 1, "absent: there is no such folder"),
        (["pictures", "mine"], 1, "pictures holds no checkpoint"),
        (["run", "mine", "--license", "My Licence"], 2, "must be an identifier"),
        (["run", "mine", "--language", "English"], 2, "must be a code"),
        (["run", "mine", "--dtype", "int8"], 2, "--dtype"),
        (["run", "mine", "--checkpoint", "../run"], 2, "cannot name a checkpoint"),
        (["run"], 2, "OUT"),
    ],
)
def test_mistakes_are_told(pixel_llm, trained_run, in_tmp_path, words, status, wanted):
    ended = pixel_llm("export", *words)
    assert ended.status == status
    assert wanted in ended.err
    assert not (in_tmp_path / "mine").exists()


def test_a_damaged_evaluation_is_told_before_anything_is_written(pixel_llm, trained_run, in_tmp_path):
    shutil.rmtree(trained_run / "evaluation", ignore_errors=True)
    (trained_run / "evaluation").mkdir()
    (trained_run / "evaluation" / "scores.json").write_text("{")
    ended = pixel_llm("export", trained_run, "mine")
    assert ended.status == 1
    assert "scores.json is not readable as scores" in ended.err
    assert not (in_tmp_path / "mine").exists()
