"""A run folder read for its page: everything that is there, and a sentence for everything that is not."""

import json
import shutil

import pytest

from systems.pixel_llm.errors import PixelLLMError
from systems.pixel_llm.evaluation.run_record import read_run
from tests.evaluation.made_run import make_run, write_lines

FILES = {
    "options": "options.toml", "metrics": "metrics.jsonl", "panel": "panel.jsonl", "environment": "environment.json",
    "data": "data.json",
}  # fmt: skip


def test_a_whole_run_is_read(tmp_path):
    record = read_run(make_run(tmp_path))
    assert record.missing == {}
    assert record.options["learning_rate"] == 0.002
    assert record.data_name == "squares"
    assert record.points("train", "loss")[0] == (10, 4.8)
    assert record.score_points("cider_d") == [(50, 0.1), (100, 0.2)]
    assert record.best_validation == (100, 3.5)
    assert (record.end_reason, record.last("num_parameters"), record.last("epoch")) == ("epochs", 12_345, 3)
    assert [(entry.step, entry.captions[0].caption) for entry in record.panel] == [
        (50, "a square"),
        (100, "a red square"),
    ]
    assert record.environment == {"torch": "2.0", "cores": 2}
    assert len(record.evaluation.pictures) == 8


def test_what_a_resumed_run_said_again_replaces_what_came_after_its_checkpoint(tmp_path):
    run = make_run(tmp_path)
    panel = [json.loads(line) for line in (run / "panel.jsonl").read_text().splitlines()]
    panel += [{"kind": "start", "step": 60}, panel[-1] | {"step": 75}]
    write_lines(run / "panel.jsonl", panel)
    assert [entry.step for entry in read_run(run).panel] == [50, 75]


@pytest.mark.parametrize("key", [*FILES, "evaluation"])
def test_a_file_that_is_not_there_is_told(tmp_path, key):
    run = make_run(tmp_path)
    if key == "evaluation":
        shutil.rmtree(run / "evaluation")
    else:
        (run / FILES[key]).unlink()
    record = read_run(run)
    assert list(record.missing) == [key]
    assert not getattr(record, key)
    assert FILES.get(key, "scored") in record.missing[key]


DAMAGED = {
    "empty": b"",
    "no text": b"\xff\xfe\x00\x01",
    "torn": b'{"kind": "panel", "step": 1, "capt',
    "a list": b"[1, 2]",
    "deep": b"[" * 100_000,
    "other values": b'{"kind": "panel", "step": 1, "captions": [7], "loss": "x", "scores": 3}',
    "another place": b'{"kind": "validation", "step": [], "loss": 1}\n{"kind": "start", "step": null}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("name", [*FILES.values(), "evaluation/scores.json", "evaluation/captions.jsonl"])
def test_a_damaged_file_costs_its_part_and_no_other(tmp_path, name, content):
    run = make_run(tmp_path)
    (run / name).write_bytes(content)
    record = read_run(run)
    key = next((key for key, file in FILES.items() if file == name), "evaluation")
    assert set(record.missing) <= {key}
    if key == "evaluation":
        assert record.evaluation is None
        assert name.partition("/")[2] in record.missing[key]
    for points in (record.points("validation", "loss"), record.points("train", "loss"), record.score_points("cider_d")):
        assert all(isinstance(value, float) for _, value in points)


def test_scores_that_came_later_are_found_in_their_folder(tmp_path):
    run = make_run(tmp_path)
    (run / "evaluation").rename(run / "others")
    (run / "evaluation").mkdir()
    (run / "others").rename(run / "evaluation" / "pictures-val")
    assert read_run(run).evaluation is not None


@pytest.mark.parametrize("name", ["absent", "pictures"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, name):
    make_run(tmp_path)
    with pytest.raises(PixelLLMError, match=name):
        read_run(tmp_path / name)
