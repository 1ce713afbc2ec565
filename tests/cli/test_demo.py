"""`pixel-llm demo`: the three lines at the end, in their form, and nowhere before; the pictures it leaves."""

import re
from pathlib import Path

import pytest

from systems.pixel_llm.cli.demo import make_demo_trainer, score
from systems.pixel_llm.cli.options import DemoOptions
from systems.pixel_llm.cli.run_folder import RunFolder
from systems.pixel_llm.data import ShapesDataset

RESULT = (
    r"exact match: \d+\.\d % \(held-out combinations, one object\)\n"
    r"two objects: \d+\.\d %\n"
    r"unseen colour-shape pairs: \d+\.\d %\n"
    r"contact sheet: {run}/samples\.png\n"
    r"training curve: {run}/training_curve\.png\n"
)
WORDS = ("exact match", "two objects", "unseen")


def test_the_scores_are_those_of_the_captions(in_tmp_path, capsys, monkeypatch):
    options = DemoOptions(num_pictures=5, device="cpu", max_minutes=1.0)
    folder = RunFolder(in_tmp_path)
    trainer = make_demo_trainer(options, folder, "cpu")
    trainer.model.fit_tokenizer(trainer.train_loader.dataset.captions)
    trainer.save_checkpoint("untrained")
    folder.metrics.write_text("", encoding="utf-8")

    # What the model says is replaced, so that the numbers are known: the truth, but for one picture in five of a kind.
    said = {}
    for split, num_wrong in (("combinations", 0), ("two", 1), ("pairs", 5)):
        captions = list(ShapesDataset(5, split=split, seed=options.seed + 2, fresh_each_epoch=False).captions)
        said[split] = ["wrong"] * num_wrong + captions[num_wrong:]
    answers = iter(said.values())
    monkeypatch.setattr(type(trainer.model), "generate", lambda self, images, **settings: next(answers))
    score(folder, options, trainer.device)
    out = capsys.readouterr().out
    assert out.splitlines()[:3] == [
        "exact match: 100.0 % (held-out combinations, one object)",
        "two objects: 80.0 %",
        "unseen colour-shape pairs: 0.0 %",
    ]
    assert re.fullmatch(RESULT.format(run=re.escape(str(in_tmp_path))), out)
    assert folder.samples.is_file()
    assert folder.curve.is_file()


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
