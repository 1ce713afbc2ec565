"""What best means: the score of captions where they are scored, else a loss; when they are scored, and what is kept."""

import json

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.inference import find_checkpoint
from systems.pixel_llm.training.events import ValidationEvent

SCORES = [0.1, 0.4, 0.2, 0.3, 0.25]


class Told:
    """A scorer that says the next of SCORES, and remembers at which steps of which trainer it was asked."""

    def __init__(self):
        self.trainer, self.steps = None, []

    def __call__(self, model, is_stopped):
        assert not is_stopped()
        self.steps.append(self.trainer.state.step)
        return {"cider_d": SCORES[len(self.steps) - 1]}


@pytest.fixture
def scored(tiny_trainer, shapes_loader):
    """A trainer of 3 steps an epoch that is scored beside each validation, unless settings say otherwise."""

    def make(**settings):
        scorer = Told()
        scorer.trainer = tiny_trainer(
            val_loader=shapes_loader(4, shuffle=False), max_checkpoints=1, **{"scorer": scorer} | settings
        )
        return scorer.trainer, scorer

    return make


def kept(trainer):
    return {record.name: (record.metric_name, record.metric) for record in trainer.checkpoint_manager.list()}


def test_best_follows_the_score_of_captions(scored):
    events = []
    trainer, scorer = scored(callbacks=[events.append])
    history = trainer.train(5)
    assert scorer.steps == history["score_steps"] == [3, 6, 9, 12, 15]
    assert history["cider_d"] == SCORES
    assert kept(trainer) == {"epoch_2": ("cider_d", 0.4), "epoch_4": ("cider_d", 0.3), "epoch_5": ("cider_d", 0.25)}
    assert find_checkpoint(trainer.checkpoint_manager.checkpoint_dir).name == "epoch_2"
    validations = [event for event in events if isinstance(event, ValidationEvent)]
    assert [event.is_best for event in validations] == [True, True, False, False, False]
    assert [event.scores["cider_d"] for event in validations] == SCORES
    metrics_file = trainer.checkpoint_manager.checkpoint_dir / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    assert [line["scores"] for line in lines if line["kind"] == "validation"] == [{"cider_d": each} for each in SCORES]


def test_the_loss_decides_where_it_is_asked_for(scored):
    trainer, scorer = scored(metric="val_loss")
    history = trainer.train(3)
    assert len(scorer.steps) == 3  # still told, but not followed
    best = min(range(3), key=lambda place: history["val_losses"][place])
    assert kept(trainer)[f"epoch_{best + 1}"] == ("val_loss", history["val_losses"][best])
    assert find_checkpoint(trainer.checkpoint_manager.checkpoint_dir).name == f"epoch_{best + 1}"


@pytest.mark.parametrize(("every", "steps"), [(2, [6, 12, 15]), (4, [12, 15]), (0, [])])
def test_captions_are_scored_every_so_often_and_at_the_end(scored, every, steps):
    trainer, scorer = scored(score_every=every)
    history = trainer.train(5)
    assert scorer.steps == history["score_steps"] == steps
    assert len(history["val_losses"]) == 5
    name = "cider_d" if every else "val_loss"
    # What was validated but not scored has no metric, and is never best.
    assert {record.metric_name for record in trainer.checkpoint_manager.list()} == {name}
    if every == 2:
        assert kept(trainer) == {"epoch_4": ("cider_d", 0.4), "epoch_5": ("cider_d", 0.2)}


def test_without_a_scorer_the_loss_decides(tiny_trainer, shapes_loader):
    trainer = tiny_trainer("one", val_loader=shapes_loader(4, shuffle=False))
    trainer.train(1)
    assert kept(trainer)["epoch_1"][0] == "val_loss"
    trainer = tiny_trainer("other")
    trainer.train(1)
    assert kept(trainer)["epoch_1"][0] == "train_loss"


@pytest.mark.parametrize("settings", [{"scorer": None}, {"score_every": 0}, {"val_loader": None}])
def test_a_score_that_nothing_measures_is_refused(tiny_trainer, shapes_loader, settings):
    settings = {"val_loader": shapes_loader(4, shuffle=False), "scorer": Told()} | settings
    with pytest.raises(ConfigError, match=r"metric='cider_d' needs"):
        tiny_trainer(metric="cider_d", **settings)


def test_a_stop_while_captions_are_scored_leaves_the_validation_due(scored):
    def stopped(model, is_stopped):
        trainer.request_stop()
        assert is_stopped()

    trainer, _ = scored(scorer=stopped)
    trainer.train(2)
    assert trainer.stop_reason == "interrupted"
    assert trainer.get_history()["val_losses"] == []
    again, scorer = scored()
    again.train(2, resume_from="epoch_1")
    assert scorer.steps == again.get_history()["val_steps"] == [3, 6]


def test_a_run_resumed_with_another_metric_does_not_compare_the_two(scored):
    trainer, _ = scored(metric="val_loss")
    trainer.train(2)
    again, _ = scored()
    again.train(4, resume_from="epoch_2")
    assert kept(again)["epoch_4"] == ("cider_d", 0.4)
    assert find_checkpoint(again.checkpoint_manager.checkpoint_dir).name == "epoch_4"
