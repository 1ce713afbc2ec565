"""An evaluation on disk: what is written is read again, and what is damaged is told with its place."""

import json
from dataclasses import replace

import pytest

from systems.pixel_llm.errors import DatasetError, PixelLLMError
from systems.pixel_llm.evaluation.diversity import diversity
from systems.pixel_llm.evaluation.evaluation_files import (
    BAD_PICTURES_FILE,
    CAPTIONS_FILE,
    FORMAT,
    SCORES_FILE,
    read_captions,
    read_evaluation,
    write_evaluation,
)
from systems.pixel_llm.evaluation.human_line import human_line
from systems.pixel_llm.evaluation.result import EvaluationResult, PictureResult, ScoreRow, SkippedPicture
from systems.pixel_llm.evaluation.score import compare, score_captions

CAPTIONS = ["a dog runs", "ein grüner\u2028Hund"]
REFERENCES = [("a dog runs", "the dog runs"), ("ein Hund", "a green dog")]


def made_result(**changes):
    scores = score_captions(CAPTIONS, REFERENCES)
    result = EvaluationResult(
        run="runs/a", checkpoint="/runs/a/checkpoints/step_1", data=("/data",), split="val",
        date="2026-01-01T00:00:00+00:00",
        generation={"num_beams": 5, "max_length": None, "prefix": ""},
        pictures=tuple(
            PictureResult(
                image=f"/data/{number}.jpg", caption=CAPTIONS[number], references=REFERENCES[number],
                log_probability=-1.5 - number, cider_d=float(scores.cider_d[number]),
            )
            for number in range(2)
        ),
        scores=tuple(scores.scores(num_draws=20)),
        baselines={
            "constant": ScoreRow(label="one for all", scores=tuple(scores.scores(num_draws=0)), caption="a dog"),
            "nearest": ScoreRow(label="looked up", scores=tuple(scores.scores(num_draws=20))),
        },
        human=human_line(CAPTIONS, REFERENCES),
        diversity=diversity([each.split() for each in CAPTIONS]),
        not_computed={"meteor": "it is not installed"},
        caveats=("only two pictures",),
    )  # fmt: skip
    return replace(result, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"human": None, "baselines": {}},
        {"data": ("/data", "/more")},
        {"skipped": (SkippedPicture(path="/data/bad.jpg", reason="it is damaged"),)},
    ],
)
def test_what_is_written_is_read_again(tmp_path, changes):
    result = made_result(**changes)
    write_evaluation(result, tmp_path / "a" / "b")
    assert read_evaluation(tmp_path / "a" / "b") == result


def test_the_files_have_the_keys_that_others_rely_on(tmp_path):
    write_evaluation(made_result(), tmp_path)
    lines = (tmp_path / CAPTIONS_FILE).read_text(encoding="utf-8").splitlines()
    assert [list(json.loads(line)) for line in lines] == [
        ["image", "caption", "references", "log_probability", "cider_d"]
    ] * 2
    assert "grüner" in lines[1]
    content = json.loads((tmp_path / SCORES_FILE).read_text(encoding="utf-8"))
    assert content["format"] == FORMAT
    assert list(content["scores"]) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"]
    for score in content["scores"].values():
        assert {"value", "interval", "signature"} <= score.keys()
    assert content["baselines"]["constant"]["caption"] == "a dog"
    assert content["num_pictures"] == 2
    assert content["human"]["scores"]["cider_d"]["interval"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [CAPTIONS_FILE, SCORES_FILE]


def test_a_name_of_bytes_that_are_no_text_is_kept(tmp_path):
    odd = replace(made_result().pictures[0], image="/data/\udcff.jpg")
    write_evaluation(made_result(pictures=(odd, made_result().pictures[1])), tmp_path)
    assert read_captions(tmp_path / CAPTIONS_FILE)[0].image == "/data/\udcff.jpg"


def test_another_evaluation_takes_the_place_of_one_with_bad_pictures(tmp_path):
    write_evaluation(made_result(skipped=(SkippedPicture(path="x", reason="y"),)), tmp_path)
    assert (tmp_path / BAD_PICTURES_FILE).is_file()
    write_evaluation(made_result(), tmp_path)
    assert not (tmp_path / BAD_PICTURES_FILE).exists()


def test_a_comparison_stands_beside_the_scores(tmp_path):
    scores = score_captions(CAPTIONS, REFERENCES)
    differences = compare(scores, score_captions(["a cat", "a dog"], REFERENCES), num_draws=20)
    write_evaluation(made_result(), tmp_path, comparison={"runs/b": differences})
    found = json.loads((tmp_path / SCORES_FILE).read_text(encoding="utf-8"))["comparison"]["runs/b"]["cider_d"]
    assert found["difference"] == differences[-1].value
    assert found["p_value"] == differences[-1].p_value
    assert read_evaluation(tmp_path) == made_result()


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PixelLLMError, match="cannot be written to"):
        write_evaluation(made_result(), tmp_path / "file" / "below")


def _line(**changes):
    record = {"image": "a.jpg", "caption": "b", "references": ["c"], "log_probability": -1, "cider_d": 1} | changes
    return json.dumps({name: value for name, value in record.items() if value is not ...})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("{\n", "line 1, is no captioned picture"),
        (_line(log_probability=...), "it lacks 'log_probability'"),
        (_line(caption=3), "expected str, found 3"),
        (_line(references=[]), "it has no reference"),
        (_line(references="c"), "expected list"),
        (_line(log_probability=True), "expected a number, found True"),
        ("[1, 2]", "is no captioned picture"),
        (_line() + "\n" + _line(image=None), "line 2, is no captioned picture: expected str, found None"),
    ],
)
def test_damaged_captions_are_told_with_their_line(tmp_path, content, told):
    (tmp_path / CAPTIONS_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=told):
        read_captions(tmp_path / CAPTIONS_FILE)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "pixel-llm scores 9"}, "expected format 'pixel-llm scores 1', found 'pixel-llm scores 9'"),
        ({"num_pictures": 3}, "is of 3 pictures, captions.jsonl beside it of 2"),
        ({"scores": None}, "is damaged"),
        ({"scores": {"cider_d": {"name": "CIDEr-D"}}}, "is damaged: it lacks 'interval'"),
        ({"diversity": {"words": 3}}, "is damaged"),
        ({"run": 7}, "expected str, found 7"),
    ],
)
def test_damaged_scores_are_told(tmp_path, changes, told):
    write_evaluation(made_result(), tmp_path)
    path = tmp_path / SCORES_FILE
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(DatasetError, match=told):
        read_evaluation(tmp_path)


def test_missing_files_are_told(tmp_path):
    with pytest.raises(DatasetError, match=r"captions\.jsonl cannot be read as captions: No such file"):
        read_evaluation(tmp_path)
    write_evaluation(made_result(), tmp_path)
    (tmp_path / SCORES_FILE).unlink()
    with pytest.raises(DatasetError, match=r"scores\.json cannot be read as scores: No such file"):
        read_evaluation(tmp_path)
