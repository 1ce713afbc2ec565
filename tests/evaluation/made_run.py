"""A run folder made by hand: pictures, measurements, what was said on the way, captions and scores."""

import json
from pathlib import Path

from PIL import Image

from systems.pixel_llm.evaluation.data_record import DataRecord, write_data_record
from systems.pixel_llm.evaluation.diversity import diversity
from systems.pixel_llm.evaluation.evaluation_files import write_evaluation
from systems.pixel_llm.evaluation.result import EvaluationResult, PictureResult, ScoreRow
from systems.pixel_llm.evaluation.score import score_captions

__all__ = ["make_run", "make_scores"]

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "gray", "orange")


def make_run(folder: Path, *, num_pictures: int = 8, caption: str | None = None) -> Path:
    """A whole run of `num_pictures` scored pictures, of the first of which the model says `caption`."""
    run = folder / "run"
    pictures = folder / "pictures"
    pictures.mkdir()
    paths = []
    for number in range(num_pictures):
        paths.append(pictures / f"{number:03}.png")
        Image.new("RGB", (40, 30), COLOURS[number % len(COLOURS)]).save(paths[-1])
    run.mkdir()
    settings = 'data = "/home/somebody/pictures"\npreset = "tiny"\nlearning_rate = 0.002\nbatch_size = 32\n'
    (run / "options.toml").write_text(settings, encoding="utf-8")
    place = {"epoch": 0, "elapsed_seconds": 1.0}
    records = [{"kind": "start", "step": 0, **place, "num_parameters": 12_345}]
    for step in range(10, 110, 10):
        rates = {"learning_rate": 1e-3 / step, "images_per_second": 30.0 + step, "data_wait_share": 0.01}
        records.append({"kind": "train", "step": step, **place, "loss": 5 - step / 50, **rates})
    for step, loss in ((50, 4.0), (100, 3.5)):
        records.append({"kind": "validation", "step": step, **place, "loss": loss, "scores": {"cider_d": step / 500}})
    records.append({"kind": "end", "step": 100, "epoch": 3, "elapsed_seconds": 90.0, "reason": "epochs"})
    write_lines(run / "metrics.jsonl", records)
    panel = [{"kind": "start", "step": 0, **place}]
    for step, said in ((50, "a square"), (100, caption or "a red square")):
        entries = [{"image": str(paths[0]), "caption": said, "references": ["a red square here"]}]
        panel.append({"kind": "panel", "step": step, **place, "captions": entries})
    write_lines(run / "panel.jsonl", panel)
    (run / "environment.json").write_text(json.dumps({"torch": "2.0", "cores": 2}), encoding="utf-8")
    data = DataRecord(
        folders=("squares",), num_train_pictures=90, num_train_captions=90, num_validation_pictures=num_pictures,
        num_validation_captions=num_pictures, is_held_back=True, is_divided_by_looks=True,
    )  # fmt: skip
    write_data_record(data, run)
    make_scores(run, paths, caption=caption)
    return run


def make_scores(run: Path, paths: list[Path], *, caption: str | None = None) -> None:
    """`run/evaluation/` of these pictures."""
    captions = [f"a {COLOURS[number % 5]} square" for number in range(len(paths))]
    captions[0] = caption or captions[0]
    references = [(f"a {COLOURS[number % 8]} square here", f"square number {number}") for number in range(len(paths))]
    scores = score_captions(captions, references)
    low = tuple(score_captions(["nothing"] * len(paths), references).scores(num_draws=0))
    result = EvaluationResult(
        run=str(run), checkpoint=str(run), data="pictures", split="val", date="2026-01-01T00:00:00+00:00",
        generation={},
        pictures=tuple(
            PictureResult(
                image=str(path), caption=captions[place], references=references[place], log_probability=-1.0 - place,
                cider_d=float(scores.cider_d[place]),
            )
            for place, path in enumerate(paths)
        ),
        scores=tuple(scores.scores(num_draws=20)),
        baselines={"constant": ScoreRow(label="one for all", scores=low, caption="nothing")},
        diversity=diversity([each.split() for each in captions]),
        caveats=("few pictures",),
    )  # fmt: skip
    write_evaluation(result, run / "evaluation")


def write_lines(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
