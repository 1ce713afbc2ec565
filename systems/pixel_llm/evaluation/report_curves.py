"""The curves of a run's page: loss, scores, learning rate, speed, as far as the run measured them."""

from collections.abc import Iterable

from systems.pixel_llm.evaluation.line_chart import Curve, LineChart, line_chart
from systems.pixel_llm.evaluation.run_record import RunRecord

__all__ = ["run_curves"]


def run_curves(record: RunRecord) -> list[LineChart]:
    """The charts there is something to draw in, all over the steps of the optimizer."""
    return [chart for chart in _charts(record) if chart is not None]


def _charts(record: RunRecord) -> Iterable[LineChart | None]:
    validation = record.points("validation", "loss")
    best = record.best_validation
    yield line_chart(
        "Loss, nats a token",
        [
            Curve(name="training", points=record.points("train", "loss")),
            Curve(name="validation", points=validation, style="second", has_dots=True),
        ],
        note=_loss_note(record),
        mark=None if best is None or len(validation) < 2 else (*best, f"{best[1]:.3f}"),
    )
    for name, title in (("cider_d", "CIDEr-D on validation pictures"), ("bleu_4", "BLEU-4 on validation pictures")):
        yield line_chart(
            title,
            [Curve(name="score", points=record.score_points(name), style="second", has_dots=True)],
            from_zero=True,
        )
    yield line_chart(
        "What the pictures are worth, nats a token",
        [Curve(name="gap", points=record.points("validation", "shuffled_loss_gap"), style="second", has_dots=True)],
        note="By how much the validation loss rises when captions are shown other pictures. At 0 it does not look.",
        from_zero=True,
    )
    yield line_chart(
        "Learning rate", [Curve(name="learning rate", points=record.points("train", "learning_rate"))], from_zero=True
    )
    yield line_chart(
        "Speed, pictures a second",
        [Curve(name="pictures a second", points=record.points("train", "images_per_second"))],
        note=_speed_note(record),
        from_zero=True,
    )


def _loss_note(record: RunRecord) -> str:
    validation, best = record.points("validation", "loss"), record.best_validation
    if best is None:
        return "It was not validated while it trained."
    last_step, last_loss = validation[-1]
    smoothed = (
        " The training loss is the smoothed one, which is higher." if record.options.get("label_smoothing") else ""
    )
    if last_step > best[0] and last_loss > best[1]:
        return (
            f"Validation loss was lowest at step {best[0]:,.0f} and rose to {last_loss:.3f} after that, as the model "
            "began to learn the training captions by heart. "
            + (
                "The best checkpoint is chosen by the score of its captions."
                if record.score_points("cider_d")
                else "The checkpoint of the lowest loss is the one that is used."
            )
            + smoothed
        )
    told = "Validation loss was lowest at the end: more training may still help." if len(validation) > 1 else ""
    return (told + smoothed).strip()


def _speed_note(record: RunRecord) -> str:
    shares = [share for _, share in record.points("train", "data_wait_share")]
    if not shares:
        return ""
    share = sum(shares) / len(shares)
    waiting = "less than 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")
    return f"Of the time, {waiting} went by waiting for pictures." + (
        " More --num-workers, or --cache, would help." if share > 0.2 else ""
    )
