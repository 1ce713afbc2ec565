"""`pixel-llm demo`: the three lines at the end, in their form, and nowhere before; the pictures it leaves."""

import re
from pathlib import Path

import pytest
import torch

from systems.pixel_llm.cli import demo
from systems.pixel_llm.cli.demo import make_demo_trainer, result_line, score
from systems.pixel_llm.cli.options import DemoOptions
from systems.pixel_llm.evaluation.run_files import RunFolder

RESULT = (
    r"exact match: \d+\.\d % \(held-out combinations, one object\)\n"
    r"two objects: \d+\.\d %\n"
    r"unseen colour-shape pairs: \d+\.\d %\n"
    r"contact sheet: {run}/samples\.png\n"
    r"training curve: {run}/training_curve\.png\n"
    r"report: {run}/report\.html\n"
)
WORDS = ("exact match", "two objects", "unseen")


@pytest.mark.parametrize(
    ("split", "line"),
    [
        ("combinations", "exact match: 75.0 % (held-out combinations, one object)"),
        ("two", "two objects: 75.0 %"),
        ("pairs", "unseen colour-shape pairs: 75.0 %"),
    ],
)
def test_a_result_is_the_share_that_is_right_to_the_letter(split, line):
    assert result_line(split, ["a", "b", "c", "D"], ["a", "b", "c", "d"]) == line


def test_the_results_come_in_their_order_then_the_files(in_tmp_path, capsys):
    options = DemoOptions(num_pictures=5, device="cpu", max_minutes=1.0)
    folder = RunFolder(in_tmp_path)
    trainer = make_demo_trainer(options, folder, torch.device("cpu"))
    trainer.model.fit_tokenizer(trainer.train_loader.dataset.captions)
    trainer.save_checkpoint("untrained")
    folder.metrics.write_text("", encoding="utf-8")
    score(folder, options, trainer.device)
    assert re.fullmatch(RESULT.format(run=re.escape(str(in_tmp_path))), capsys.readouterr().out)
    assert folder.samples.is_file()
    assert folder.curve.is_file()


def test_a_stop_before_the_first_step_prints_no_result(pixel_llm, in_tmp_path, monkeypatch, stopped_at_once):
    monkeypatch.setattr(demo, "stop_on_signals", stopped_at_once)
    ended = pixel_llm("demo", "--device", "cpu")
    assert (ended.status, ended.out) == (130, "")


def test_a_folder_in_use_is_refused(pixel_llm, in_tmp_path):
    Path("used").mkdir()
    Path("used/file").touch()
    ended = pixel_llm("demo", "--out", "used")
    assert (ended.status, ended.out) == (1, "")
    assert "--out used is used already" in ended.err


@pytest.mark.slow
def test_the_demo_from_end_to_end(pixel_llm, in_tmp_path):
    ended = pixel_llm("demo", "--max-minutes", "0.02", "--num-pictures", 8, "--device", "cpu")
    assert ended.status == 0
    assert re.fullmatch(RESULT.format(run="runs/demo"), ended.out)
    assert not any(word in ended.err for word in WORDS)
    assert "pixel-llm caption runs/demo PICTURE" in ended.err
    for name in ("samples.png", "training_curve.png", "metrics.jsonl", "checkpoints"):
        assert (Path("runs/demo") / name).exists()
