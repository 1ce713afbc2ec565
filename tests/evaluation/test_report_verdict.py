"""The sentences at the head of a run's page: what is said of the pictures is of the checkpoint that captions."""

from pathlib import Path

from systems.pixel_llm.evaluation.report_curves import run_curves
from systems.pixel_llm.evaluation.report_verdict import sentences_of
from systems.pixel_llm.evaluation.run_record import RunRecord


def record(*validations, options=None):
    metrics = [
        {"kind": "validation", "step": step, "loss": loss, "shuffled_loss_gap": gap, "scores": scores}
        for step, loss, gap, scores in validations
    ]
    return RunRecord(
        path=Path("run"), options=options or {}, metrics=tuple(metrics), panel=(), environment={}, data=None,
        evaluation=None, missing={},
    )  # fmt: skip


def told(*validations):
    return " ".join(sentences_of(record(*validations)))


def test_the_gap_is_that_of_the_best_checkpoint():
    scored = [(10, 3.0, 0.1, {"cider_d": 0.1}), (20, 3.2, 0.2, {"cider_d": 0.3}), (30, 3.4, 0.3, {"cider_d": 0.2})]
    assert "its loss rises by 0.200 nats a token: it looks at its pictures" in told(*scored)
    assert "its loss rises by 0.100 nats" in told(*((*each[:3], {}) for each in scored)), "the lowest loss"
    assert "it hardly looks at its pictures" in told((10, 3.0, 0.004, {}))
    assert "wrong pictures" not in told((10, 3.0, None, {}))


def test_the_gap_is_drawn_and_a_smoothed_loss_is_told():
    validations = [(10, 3.0, 0.1, {}), (20, 2.9, 0.2, {})]
    titles = [chart.title for chart in run_curves(record(*validations))]
    assert "What the pictures are worth, nats a token" in titles
    for options, is_told in (({}, False), ({"label_smoothing": 0.1}, True)):
        notes = " ".join(chart.note for chart in run_curves(record(*validations, options=options)))
        assert ("The training loss is the smoothed one" in notes) is is_told
