"""What the card tells is read from the run's own files; what is not there is not known, what is damaged is told."""

import json

import pytest

from systems.pixel_llm.errors import CheckpointError, DatasetError
from systems.pixel_llm.evaluation.data_record import DataRecord, read_data_record, write_data_record
from systems.pixel_llm.evaluation.run_facts import Progress, read_run_facts

RECORD = DataRecord(
    folders=("photos", "grün\n漢字"), num_train_pictures=9, num_train_captions=45, num_validation_pictures=1,
    num_validation_captions=5, is_held_back=True, is_divided_by_looks=False,
)  # fmt: skip
SCORE = {"value": 0.5, "interval": [0.4, 0.6], "signature": "n:4|refs:5"}
SCORES = {
    "format": "pixel-llm scores 1", "run": "/home/me/runs/x", "checkpoint": "/home/me/runs/x/checkpoints/step_7",
    "data": "/home/me/photos", "split": "val", "num_pictures": 11, "date": "2026-11-24", "generation": {"num_beams": 5},
    "scores": {"cider_d": SCORE, "bleu_4": SCORE | {"interval": None}}, "not_computed": {"meteor": "no word net"},
    "baselines": {"constant": {"caption": "a dog", "scores": {"cider_d": {"value": 0.4}}}},
    "human": {"scores": {"cider_d": {"value": 0.9}}}, "diversity": {"copied_share": 0.25, "distinct_captions": 0.75},
    "caveats": ["few pictures"],
}  # fmt: skip


def state(**changes):
    fields = {
        "epoch": 2,
        "step": 7,
        "elapsed_seconds": 90.0,
        "history": {"val_losses": [3.5, 3]},
    }
    return {"training_state": {"state": fields | changes, "seed": 0}, "optimizer": None}


def picture(name, cider_d):
    return {"image": f"/home/me/photos/{name}.jpg", "caption": name, "references": ["r"], "cider_d": cider_d}


@pytest.fixture
def run(tmp_path):
    """A run folder without weights, which no one reads here."""
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoints" / "step_7"
    checkpoint.mkdir(parents=True)
    (checkpoint / "training_state.json").write_text(json.dumps(state()))
    options = [
        'data = "/home/me/photos"',
        'init_from = "/home/me/first"',
        'manifest = "/home/x"',
        "learning_rate = 0.001",
    ]
    (folder / "options.toml").write_text("\n".join(options))
    write_data_record(RECORD, folder)
    return folder


def write_scores(run, *, below="", pictures=(), **changes):
    folder = run / "evaluation" / below
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(SCORES | changes))
    (folder / "captions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in pictures))


def facts_of(run):
    return read_run_facts(run / "checkpoints" / "step_7")


def test_a_run_tells_its_progress_settings_and_data(run):
    facts = facts_of(run)
    assert facts.progress == Progress(epoch=2, step=7, minutes=1.5, validation_loss=3.0)
    assert facts.settings == {"learning_rate": 0.001}
    assert (facts.checkpoint, facts.started_from, facts.data) == ("step_7", "first", RECORD)
    assert (facts.scores, facts.scores_are_of, facts.examples) == ((), None, ())


def test_nothing_of_the_machine_is_in_the_facts(run):
    write_scores(run, pictures=[picture("a", 1.0)])
    facts = facts_of(run)
    told = repr(facts).replace(repr(facts.scores[0].folder), "").replace(repr(facts.scores[0].checkpoint), "")
    assert "/home" not in told


def test_scores_are_read_with_what_stands_beside_them(run):
    write_scores(run)
    (scores,) = facts_of(run).scores
    assert (scores.data, scores.split, scores.num_pictures, scores.copied_share) == (("photos",), "val", 11, 0.25)
    assert [(line.title, line.value, line.interval) for line in scores.scores] == [
        ("CIDEr-D", 0.5, (0.4, 0.6)), ("BLEU-4", 0.5, None)
    ]  # fmt: skip
    assert [(row.key, row.caption, dict(row.values)) for row in scores.rows] == [
        ("constant", "a dog", {"cider_d": 0.4}), ("human", None, {"cider_d": 0.9})
    ]  # fmt: skip
    assert [row.key for row in scores.not_surely_better_than("cider_d")] == ["constant"]
    assert scores.worse_than("cider_d") == []


def test_scores_of_other_data_follow_those_that_training_left(run):
    write_scores(run, below="a_other", data=["/d/other", "/d/third"])
    write_scores(run)
    assert [scores.data for scores in facts_of(run).scores] == [("photos",), ("other", "third")]


def test_scores_of_another_checkpoint_are_not_this_one_s(run):
    write_scores(run, checkpoint="step_9", pictures=[picture("a", 1.0)])
    facts = facts_of(run)
    assert (facts.scores, facts.scores_are_of, facts.examples) == ((), "step_9", ())


def test_examples_are_a_good_a_middling_and_a_bad_one(run):
    write_scores(run, pictures=[picture(f"p{number}", (number * 7) % 11) for number in range(11)])
    shown = [(example.kind, example.caption, example.image) for example in facts_of(run).examples]
    by_score = {(number * 7) % 11: f"p{number}" for number in range(11)}
    assert shown == [
        ("a good one", by_score[9], f"{by_score[9]}.jpg"),
        ("a middling one", by_score[5], f"{by_score[5]}.jpg"),
        ("a bad one", by_score[1], f"{by_score[1]}.jpg"),
    ]


@pytest.mark.parametrize(("count", "kinds"), [(0, []), (1, ["a good one"]), (2, ["a good one", "a middling one"])])
def test_few_pictures_are_shown_once_each(run, count, kinds):
    write_scores(run, pictures=[picture(f"p{number}", number) for number in range(count)])
    examples = facts_of(run).examples
    assert len(examples) == len({example.image for example in examples}) == count
    assert [example.kind for example in examples] == kinds


def test_without_scores_the_panel_of_the_same_step_stands_in(run):
    panel = [{"step": step, "captions": [picture(f"{step}-{n}", None) for n in range(5)]} for step in (3, 7, 9)]
    (run / "panel.jsonl").write_text("".join(json.dumps(each) + "\n" for each in panel))
    examples = facts_of(run).examples
    assert [(example.caption, example.kind) for example in examples] == [("7-0", None), ("7-1", None), ("7-2", None)]


def test_a_checkpoint_outside_a_run_is_known_by_itself_alone(run, tmp_path):
    alone = (run / "checkpoints" / "step_7").rename(tmp_path / "alone")
    write_scores(tmp_path)
    facts = read_run_facts(alone)
    assert facts.progress is not None
    assert (facts.data, facts.settings, facts.scores) == (None, None, ())


@pytest.mark.parametrize("content", [{"training_state": None}, {"training_state": {"mine": 1}}, state(step="7")])
def test_a_state_of_another_loop_tells_no_progress(run, content):
    (run / "checkpoints" / "step_7" / "training_state.json").write_text(json.dumps(content))
    assert facts_of(run).progress is None


def test_a_run_without_validation_has_no_loss(run):
    no_losses = state(history={"train_losses": [1.0], "val_losses": []})
    (run / "checkpoints" / "step_7" / "training_state.json").write_text(json.dumps(no_losses))
    assert facts_of(run).progress.validation_loss is None


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("checkpoints/step_7/training_state.json", "{", CheckpointError),
        ("checkpoints/step_7/training_state.json", "[]", CheckpointError),
        ("options.toml", "= 1", DatasetError),
        ("data.json", "[]", DatasetError),
        ("data.json", json.dumps({"format": "pixel-llm data 1"}), DatasetError),
        ("evaluation/scores.json", "{", DatasetError),
        ("evaluation/scores.json", json.dumps(SCORES | {"format": "2"}), DatasetError),
        ("evaluation/scores.json", json.dumps(SCORES | {"scores": {"cider_d": {}}}), DatasetError),
        ("evaluation/captions.jsonl", "[]\n", DatasetError),
        ("evaluation/captions.jsonl", '{"image": "a.jpg"}\n', DatasetError),
        ("panel.jsonl", "{\n", DatasetError),
    ],
)
def test_a_damaged_file_is_named(run, name, content, kind):
    if name.startswith("evaluation/captions"):
        write_scores(run)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(content)
    with pytest.raises(kind, match=name.split("/")[-1]):
        facts_of(run)


def test_a_record_of_data_comes_back(tmp_path):
    assert read_data_record(tmp_path) is None
    write_data_record(RECORD, tmp_path)
    assert read_data_record(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


@pytest.mark.parametrize(
    "change", [{"num_train_pictures": -1}, {"num_train_captions": "9"}, {"folders": [1]}, {"x": 1}]
)
def test_a_record_of_data_that_was_changed_is_refused(tmp_path, change):
    write_data_record(RECORD, tmp_path)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=r"data\.json"):
        read_data_record(tmp_path)
