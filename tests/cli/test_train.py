"""`pixel-llm train`: the run it leaves, what it refuses, and how a run goes on."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from systems.pixel_llm.cli import train
from systems.pixel_llm.cli.samples import PanelFile, SamplePanel
from systems.pixel_llm.data import read_samples
from systems.pixel_llm.evaluation.run_record import read_run
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.training.events import PanelEvent

TINY = [
    "--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
    "--batch-size", "4", "--precision", "fp32", "--num-workers", "0",
]  # fmt: skip


def truncate(picture):
    picture.write_bytes(picture.read_bytes()[:80])


def records(run, kind):
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def best_loss(ended):
    (loss,) = re.findall(r"^best validation loss: (\d+\.\d{4})$", ended.out, re.MULTILINE)
    return loss


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_its_files_and_names_them_on_stdout(pixel_llm, pictures):
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 2)
    run = Path("runs/pictures")
    assert ended.status == 0
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "data.json", "environment.json", "evaluation", "metrics.jsonl", "options.toml", "panel.jsonl",
        "report.html", "samples.png", "training_curve.png",
    ]  # fmt: skip
    assert re.fullmatch(
        r"best validation loss: \d+\.\d{4}\n"
        r"CIDEr-D: \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\], BLEU-4: \d\.\d{3} \(2 validation pictures\)\n"
        r"captions and scores: runs/pictures/evaluation\n"
        r"contact sheet: runs/pictures/samples\.png\n"
        r"training curve: runs/pictures/training_curve\.png\n"
        r"report: runs/pictures/report\.html\n",
        ended.out,
    )
    # What the run did, and what to type next, is no result.
    for told in ("pictures read as: text", "validation loss", "pixel-llm caption runs/pictures PICTURE..."):
        assert told in ended.err


def test_the_same_seed_gives_the_same_loss_and_another_one_another(pixel_llm, pictures):
    losses = [
        best_loss(pixel_llm("train", pictures, TINY, "--max-steps", 2, "--seed", seed, "--out", f"run{number}"))
        for number, seed in enumerate((1, 1, 2))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_the_options_of_one_run_make_another_like_it(pixel_llm, pictures, trained_run):
    ended = pixel_llm("train", pictures, "--config", trained_run / "options.toml", "--out", "again")
    assert ended.status == 0
    assert [each["loss"] for each in records(Path("again"), "validation")] == [
        each["loss"] for each in records(trained_run, "validation")
    ]
    assert (
        Path("again/options.toml").read_text(encoding="utf-8").partition("preset")[2]
        == ((trained_run / "options.toml").read_text(encoding="utf-8").partition("preset")[2])
    )


def test_minutes_end_a_run(pixel_llm, pictures):
    ended = pixel_llm("train", pictures, TINY, "--max-minutes", "0.02", "--out", "run")
    assert ended.status == 0
    assert records(Path("run"), "end")[-1]["reason"] == "max_minutes"
    assert checkpoints(Path("run"))


def test_weights_and_tokenizer_of_another_run_to_start_from(pixel_llm, pictures, trained_run):
    ended = pixel_llm(
        "train", pictures, "--init-from", trained_run, "--max-steps", 1, "--out", "other", "--learning-rate", "1e-6"
    )
    assert ended.status == 0
    assert "Tokenizer fitted" not in ended.err
    tokenizers = [next(path.glob("checkpoints/*/tokenizer.json")).read_bytes() for path in (Path("other"), trained_run)]
    assert tokenizers[0] == tokenizers[1]
    # One step from where the other run stood, not from the beginning.
    (start,) = records(Path("other"), "validation")
    assert start["loss"] == pytest.approx(records(trained_run, "validation")[-1]["loss"], rel=0.02)
    assert "vision_embed_dim = 32" in Path("other/options.toml").read_text(encoding="utf-8")


def test_a_setting_of_the_model_that_init_from_overrules_is_told(pixel_llm, pictures, trained_run):
    ended = pixel_llm(
        "train", pictures, "--init-from", trained_run, "--vision-embed-dim", 48, "--max-steps", 1, "--out", "other"
    )  # fmt: skip
    assert ended.status == 0
    assert "warning: vision_embed_dim=48 is not what that model has (32)" in ended.err
    assert "image_size" not in ended.err  # left out: nothing to tell


def test_weights_alone_to_start_from(pixel_llm, pictures, trained_run):
    weights = next(trained_run.glob("checkpoints/*/model.safetensors"))
    ended = pixel_llm(
        "train", pictures, TINY, "--init-from", weights, "--max-steps", 1, "--out", "other", "--learning-rate", "1e-9"
    )
    assert ended.status == 0
    assert f"Starting from the weights in {weights}, but for the embeddings of tokens" in ended.err
    assert "Tokenizer fitted" in ended.err
    kept, trained = load_file(next(Path("other").glob("checkpoints/*/model.safetensors"))), load_file(weights)
    name = "encoder.position_embedding.weight"
    torch.testing.assert_close(kept[name], trained[name])


def test_weights_alone_of_another_model_are_refused(pixel_llm, pictures, trained_run):
    weights = next(trained_run.glob("checkpoints/*/model.safetensors"))
    ended = pixel_llm("train", pictures, TINY, "--vision-embed-dim", 48, "--init-from", weights, "--out", "other")
    assert (ended.status, ended.out) == (1, "")
    assert "does not fit this PixelLLM: 'encoder." in ended.err
    assert "Make the model with the settings" in ended.err
    assert not Path("other").exists()


# --- the data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("absent", "The data folder absent does not exist"),
        ("pictures/picture_00.png", "is a file. Give the folder"),
        ("empty", "No captions found in empty"),
        ("bare", "Found there: 12 pictures. Write a .txt file beside each picture"),
    ],
)
def test_data_that_cannot_be_used_is_told_and_leaves_no_run(pixel_llm, pictures, data, wanted):
    Path("empty").mkdir()
    shutil.copytree(pictures, "bare", ignore=shutil.ignore_patterns("*.txt"))
    ended = pixel_llm("train", data, TINY)
    assert (ended.status, ended.out) == (1, "")
    assert wanted in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not Path("runs").exists()


def test_a_folder_for_validation(pixel_llm, pictures):
    shutil.copytree(pictures, "others")
    ended = pixel_llm("train", pictures, "--val", "others", TINY, "--max-steps", 1, "--out", "run")
    assert ended.status == 0
    assert "12 pictures to train on, 12 to validate on" in ended.err


def test_manifests_for_training_and_validation(pixel_llm, pictures):
    names = sorted(path.name for path in pictures.glob("*.png"))
    for manifest, part in (("train.json", names[:8]), ("dev.json", names[8:])):
        (pictures / manifest).write_text(json.dumps({name: ["a square", "one square"] for name in part}), "utf-8")
    manifests = ["--manifest", pictures / "train.json", "--val-manifest", "dev.json"]  # one from here, one from DATA
    ended = pixel_llm("train", pictures, manifests, TINY, "--max-steps", 1, "--out", "run")
    assert ended.status == 0
    assert "8 pictures to train on, 4 to validate on" in ended.err
    shutil.move("run", "elsewhere")  # a resume from the recorded options finds both again
    ended = pixel_llm("train", pictures, "--out", "elsewhere", "--resume", "--max-steps", 2)
    assert ended.status == 0
    assert "8 pictures to train on, 4 to validate on" in ended.err


def test_pictures_on_both_sides_are_refused(pixel_llm, pictures):
    ended = pixel_llm("train", pictures, "--val", pictures, TINY)
    assert (ended.status, ended.out) == (1, "")
    assert "12 pictures are in the training and in the validation data" in ended.err
    assert "picture_00.png" in ended.err


def test_a_single_picture_is_trained_on_without_validation(pixel_llm, pictures):
    for path in sorted(pictures.iterdir())[2:]:
        path.unlink()
    ended = pixel_llm("train", pictures, TINY, "--epochs", 1, "--out", "run")
    assert ended.status == 0
    assert ended.lines[0].startswith("training loss: ")
    assert Path("run/samples.png").is_file()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_picture_that_cannot_be_decoded_is_told_by_name_alone(pixel_llm, pictures, workers):
    for picture in pictures.glob("*.png"):
        truncate(picture)
    ended = pixel_llm(
        "train", pictures, TINY, "--num-workers", workers, "--on-bad-sample", "raise", "--epochs", 1, "--out", "run"
    )  # fmt: skip
    assert (ended.status, ended.out) == (1, "")
    assert re.fullmatch(r"pixel-llm: pictures/picture_\d\d\.png cannot be decoded: .*", ended.err.splitlines()[-1])
    assert "worker process" not in ended.err


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_leaves_no_run(pixel_llm, pictures, device):
    ended = pixel_llm("train", pictures, TINY, "--device", device)
    assert ended.status == 2
    assert ended.err.startswith(f"pixel-llm: --device {device}: ")
    assert not Path("runs").exists()


# --- going on ---------------------------------------------------------------------------------------------------------


def test_a_used_run_is_refused_and_untouched(pixel_llm, pictures, trained_run):
    before = checkpoints(trained_run)
    ended = pixel_llm("train", pictures, TINY, "--out", trained_run)
    assert (ended.status, ended.out) == (1, "")
    assert "--resume" in ended.err
    assert checkpoints(trained_run) == before


@pytest.mark.parametrize(("bound", "step"), [(["--max-steps", 5], 5), (["--max-steps", "none", "--epochs", 3], 9)])
def test_a_resume_goes_on_with_the_options_of_the_run(pixel_llm, pictures, trained_run, bound, step):
    ended = pixel_llm("train", pictures, "--out", trained_run, "--resume", bound)
    assert ended.status == 0
    assert "step 3." in ended.err
    assert [each["step"] for each in records(trained_run, "start")] == [0, 3]
    assert records(trained_run, "end")[-1]["step"] == step
    losses = [each["loss"] for each in records(trained_run, "validation")]
    assert len(set(losses[-2:])) == 2  # it learned on: the rate of a run that was at its end does not stay at 0


def test_a_resume_of_a_finished_run_says_so_and_leaves_pictures(pixel_llm, pictures, trained_run):
    (trained_run / "samples.png").unlink()
    before = checkpoints(trained_run)
    ended = pixel_llm("train", pictures, "--out", trained_run, "--resume")
    assert ended.status == 0
    assert "Nothing to do" in ended.err
    assert "--max-steps" in ended.err
    assert (trained_run / "samples.png").is_file()
    assert checkpoints(trained_run) == before


def test_a_resume_of_nothing_starts_and_says_so(pixel_llm, pictures):
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 1, "--out", "run", "--resume")
    assert ended.status == 0
    assert "There is no checkpoint in run yet: starting from the beginning." in ended.err
    assert checkpoints(Path("run"))


def test_a_resume_of_another_folder_is_refused(pixel_llm, pictures):
    ended = pixel_llm("train", pictures, TINY, "--out", pictures, "--resume")
    assert ended.status == 1
    assert "--out pictures holds other files, and no run to resume" in ended.err


def test_a_resume_without_a_run_is_wrong_usage(pixel_llm, pictures):
    ended = pixel_llm("train", pictures, TINY, "--resume")
    assert ended.status == 2
    assert "--resume needs --out RUN" in ended.err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--vision-embed-dim", 64], "--vision-embed-dim=32, not --vision-embed-dim=64"),
        (["--image-size", "64"], "--image-size=(32, 32), not --image-size=(64, 64)"),
    ],
)
def test_a_resume_cannot_change_the_model(pixel_llm, pictures, trained_run, words, wanted):
    ended = pixel_llm("train", pictures, "--out", trained_run, "--resume", words)
    assert ended.status == 2
    assert wanted in ended.err


def test_the_same_size_in_other_words_is_no_change(pixel_llm, pictures, trained_run):
    words = ["--image-size", "32x32", "--text-embed-dim", 32, "--dropout", "0.2"]
    assert pixel_llm("train", pictures, "--out", trained_run, "--resume", words).status == 0


def test_a_resume_on_other_data_is_told(pixel_llm, pictures, trained_run):
    pixel_llm("train", pictures, "--out", trained_run, "--resume")
    shutil.copytree(pictures, "others")
    ended = pixel_llm("train", "others", "--out", trained_run, "--resume")
    assert ended.status == 0
    assert f"warning: This run was started on {pictures.resolve()}" in ended.err


def test_a_stop_before_the_first_step_has_nothing_to_save(pixel_llm, pictures, monkeypatch, stopped_at_once):
    monkeypatch.setattr(train, "stop_on_signals", stopped_at_once)
    ended = pixel_llm("train", pictures, TINY, "--epochs", 1, "--out", "run")
    assert (ended.status, ended.out) == (130, "")
    assert "Stopped before the first step" in ended.err


# --- pictures that are only looked at ---------------------------------------------------------------------------------


def panel_model():
    return create_pixel_llm(image_size=32, patch_size=16, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1)


@pytest.mark.parametrize("num_bad", [1, 3])
def test_the_panel_goes_on_without_a_picture_it_cannot_read(pictures, caplog, num_bad):
    samples = read_samples(pictures, "text")[:3]
    for sample in samples[:num_bad]:
        truncate(sample.image_path)
    model, panel = panel_model(), SamplePanel(samples)
    with caplog.at_level("INFO", logger="systems.pixel_llm"):
        assert len(panel(model)) == len(panel(model)) == 3 - num_bad
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == num_bad  # once a picture, not once a validation
    assert all("cannot be decoded" in message for message in messages)


def test_the_panel_s_file_keeps_more_pictures_than_the_log_tells(pictures, caplog):
    samples = read_samples(pictures, "text")
    captions = SamplePanel(samples)(panel_model())
    assert [each.pixels.shape for each in captions] == [(32, 32, 3)] * 8
    with caplog.at_level("INFO", logger="systems.pixel_llm"):
        PanelFile(Path("panel.jsonl"))(
            PanelEvent(
                epoch=0,
                step=1,
                elapsed_seconds=1.0,
                progress=0.5,
                total_steps=2,
                num_epochs=None,
                samples_seen=8,
                captions=tuple(captions),
            )
        )
    assert len(caplog.records) == 3
    (line,) = map(json.loads, Path("panel.jsonl").read_text(encoding="utf-8").splitlines())
    assert (line["kind"], line["step"], line["epoch"], line["elapsed_seconds"]) == ("panel", 1, 0, 1.0)
    assert len(line["captions"]) == 8
    first = line["captions"][0]
    assert first["image"] == str(samples[0].image_path.absolute())
    assert first["references"] == list(samples[0].captions)


def test_a_resumed_run_goes_on_with_its_panel(pixel_llm, pictures, trained_run):
    assert pixel_llm("train", pictures, "--out", trained_run, "--resume", "--max-steps", 6).status == 0
    kinds = [json.loads(line)["kind"] for line in (trained_run / "panel.jsonl").read_text().splitlines()]
    assert kinds.count("start") == 2
    steps = [entry.step for entry in read_run(trained_run).panel]
    assert steps == sorted(set(steps))
    assert steps[-1] == 6


def test_the_contact_sheet_goes_on_without_a_picture_that_was_lost_meanwhile(pixel_llm, pictures, trained_run):
    for picture in pictures.glob("*.png"):
        truncate(picture)
    ended = pixel_llm("train", pictures, "--out", trained_run, "--resume")  # at its end: no training
    assert ended.status == 0
    assert "warning: Left out of the contact sheet: " in ended.err
    assert (trained_run / "training_curve.png").is_file()


def test_writing_that_the_pictures_font_lacks_is_no_warning(pixel_llm, pictures):
    for text in pictures.glob("*.txt"):
        text.write_text("漢字 🦊 square\n", encoding="utf-8")
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 1, "--out", "漢字 🦊")
    assert ended.status == 0
    assert "Glyph" not in ended.err
    assert Path("漢字 🦊/training_curve.png").is_file()


# --- the optimizer's settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--freeze", "encodr"], "--freeze: 'encodr' takes no parameter of this model. Did you mean 'encoder'?"),
        (["--freeze", "encoder,decoder"], "--freeze='encoder,decoder' leaves nothing to train"),
        (["--learning-rates", "encoder=0"], "--learning-rates must be PART=RATE"),
        (["--learning-rates", "vision=1e-3"], "--learning-rates: 'vision' takes no parameter"),
        (["--warmup-steps", "9", "--warmup-fraction", "0.1"], "both say how long the warm-up is"),
        (["--decay-fraction", "2"], "--decay-fraction must be a number above 0 and at most 1, not 2.0"),
        (["--min-learning-rate-fraction", "1"], "--min-learning-rate-fraction must be a number at least 0 and below 1"),
        (["--save-every-steps", "0"], "--save-every-steps must be a whole number at least 1, or none, not 0"),
    ],
)
def test_a_wrong_setting_of_the_optimizer_is_told_and_leaves_no_run(pixel_llm, pictures, words, wanted):
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 20, "--out", "run", *words)
    assert ended.status == 2
    assert wanted in " ".join(ended.err.replace("│", " ").split())
    assert not Path("run").exists()


def test_parts_a_schedule_and_saves_by_steps_from_the_command_line(pixel_llm, pictures):
    words = ["--freeze", "encoder.stem", "--learning-rates", "encoder=1e-4,decoder.norm=2e-3", "--schedule", "wsd"]
    words += ["--warmup-steps", 1, "--save-every-steps", 2, "--deterministic", "--log-interval", 1]
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 3, "--out", "run", *words)
    assert ended.status == 0, ended.err
    settings = tomllib.loads(Path("run/options.toml").read_text(encoding="utf-8"))
    assert settings["learning_rates"] == "encoder=1e-4,decoder.norm=2e-3"
    assert (settings["freeze"], settings["schedule"], settings["warmup_steps"]) == ("encoder.stem", "wsd", 1)
    rates = [record["learning_rate"] for record in records(Path("run"), "train")]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3 / 6 / 0.2])
    ended = pixel_llm("train", pictures, "--out", "run", "--resume", "--max-steps", 5)
    assert ended.status == 0, ended.err
