"""The scores with which `train` ends, and that no run is lost to them."""

import shutil
import signal
from pathlib import Path

from systems.pixel_llm.cli import train, validation_scores
from systems.pixel_llm.evaluation.evaluation_files import read_evaluation

TINY = [
    "--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
    "--batch-size", "4", "--precision", "fp32", "--num-workers", "0", "--out", "run",
]  # fmt: skip


def is_whole_without_scores(run="run"):
    there = {path.name for path in Path(run).iterdir()}
    return "evaluation" not in there and {"checkpoints", "samples.png", "training_curve.png"} <= there


def test_the_best_checkpoint_is_scored_on_the_validation_pictures(pixel_llm, pictures):
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 2)
    assert ended.status == 0
    result = read_evaluation(Path("run/evaluation"))
    assert (result.run, result.split, len(result.pictures)) == ("run", "val", 2)
    assert Path(result.checkpoint).parent == Path("run/checkpoints").resolve()
    assert set(result.baselines) == {"constant", "nearest"}
    assert f"CIDEr-D: {result.score('CIDEr-D').value:.3f} [" in ended.out
    assert "note: CIDEr over 2 pictures means little" in ended.err


def test_a_run_that_goes_on_is_scored_again(pixel_llm, pictures):
    pixel_llm("train", pictures, TINY, "--max-steps", 2)
    first = read_evaluation(Path("run/evaluation"))
    assert pixel_llm("train", pictures, TINY, "--max-steps", 6, "--resume").status == 0
    assert read_evaluation(Path("run/evaluation")).checkpoint != first.checkpoint


def test_of_many_validation_pictures_some_are_scored(pixel_llm, pictures, monkeypatch):
    monkeypatch.setattr(validation_scores, "MAX_PICTURES", 3)
    shutil.copytree(pictures, "others")
    ended = pixel_llm("train", pictures, "--val", "others", TINY, "--max-steps", 1)
    told = "Scored on 3 of the 12 validation pictures, evenly spaced; all of them: pixel-llm evaluate run"
    assert told in ended.err
    result = read_evaluation(Path("run/evaluation"))
    assert [Path(each.image).name for each in result.pictures] == [f"picture_{number:02}.png" for number in (0, 4, 8)]
    assert told in result.caveats


def test_without_validation_pictures_there_are_no_scores(pixel_llm, pictures):
    for path in sorted(pictures.iterdir())[2:]:
        path.unlink()
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 1)
    assert ended.status == 0
    assert "There are no pictures to validate on, so there are no scores." in ended.err
    assert is_whole_without_scores()


def test_validation_pictures_that_became_unreadable_cost_the_scores_alone(pixel_llm, pictures, monkeypatch):
    shutil.copytree(pictures, "others")

    def spoil(*arguments, **details):
        for path in Path("others").glob("*.png"):
            path.write_bytes(b"")
        return score(*arguments, **details)

    score = validation_scores.score_validation
    monkeypatch.setattr(train, "score_validation", spoil)
    ended = pixel_llm("train", pictures, "--val", "others", TINY, "--max-steps", 1)
    assert ended.status == 0
    assert "warning: There are no scores: None of the 12 pictures can be read" in ended.err
    assert "CIDEr" not in ended.out


def test_ctrl_c_while_scoring_leaves_a_whole_run(pixel_llm, pictures, monkeypatch):
    monkeypatch.setattr(validation_scores, "evaluate", lambda *arguments, **details: signal.raise_signal(signal.SIGINT))
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 1)
    assert ended.status == 130
    assert "Scoring was stopped; the run is whole. To score it: pixel-llm evaluate run" in ended.err
    assert is_whole_without_scores()


def test_a_run_that_is_stopped_is_not_kept_waiting(pixel_llm, pictures, monkeypatch, stopped_at_once):
    pixel_llm("train", pictures, TINY, "--max-steps", 1)
    shutil.rmtree("run/evaluation")

    monkeypatch.setattr(train, "stop_on_signals", stopped_at_once)
    ended = pixel_llm("train", pictures, TINY, "--max-steps", 6, "--resume")
    assert ended.status == 128 + signal.SIGINT
    assert "Stopped early, so there are no scores." in ended.err
    assert is_whole_without_scores()
