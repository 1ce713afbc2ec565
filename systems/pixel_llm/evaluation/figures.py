"""Pictures of a run: its curve, and a contact sheet of pictures with true and generated captions.

Drawn by matplotlib on figures of their own, without its global state, so that a program's other plots are left alone.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["CaptionedPicture", "contact_sheet", "training_curve"]

BLUE, ORANGE, GREEN, RED, GREY = "#2563eb", "#ea580c", "#15803d", "#b91c1c", "#6b7280"


@dataclass(frozen=True, kw_only=True)
class CaptionedPicture:
    """One cell of a contact sheet."""

    image: Image.Image
    caption: str
    """What the model says."""
    references: tuple[str, ...]
    """What people say; the first is shown."""


def contact_sheet(pictures: Sequence[CaptionedPicture], path: Path, *, title: str, columns: int = 4) -> None:
    """Write a PNG of pictures in a grid, under each what the model says and, where that differs, what is true."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(3.3 * columns, 3.5 * rows + 0.5), dpi=110, layout="constrained", facecolor="white")
    figure.suptitle(_plain(title), fontsize=13, color="#111827", ha="left", x=0.02)
    axes = figure.subplots(rows, columns, squeeze=False)
    for cell in axes.flat:
        cell.set_axis_off()
    for cell, picture in zip(axes.flat, pictures, strict=False):
        cell.imshow(picture.image, interpolation="lanczos")
        cell.set_axis_on()
        cell.set_xticks([])
        cell.set_yticks([])
        for spine in cell.spines.values():
            spine.set_color("#d1d5db")
        is_right = picture.caption.strip() in {reference.strip() for reference in picture.references}
        shown = picture.caption or "(nothing)"
        cell.set_title(_wrapped(shown), fontsize=10, color=GREEN if is_right else "#111827", y=-0.04, va="top")
        if not is_right:
            # The second text stands as many lines lower as the first one takes.
            lines = _wrapped(shown).count("\n") + 1
            cell.annotate(
                _wrapped(f"true: {picture.references[0]}"), (0.5, 0), xycoords="axes fraction",
                xytext=(0, -8 - 13.5 * lines), textcoords="offset points", ha="center", va="top",
                fontsize=8.5, color=GREY,
            )  # fmt: skip
    FigureCanvasAgg(figure).print_png(str(path))


def training_curve(records: Sequence[dict[str, Any]], path: Path, *, title: str) -> None:
    """Write a PNG of the training and validation loss over the steps.

    Args:
        records: what `read_metrics` gives: "train" and "validation" records with `step` and `loss`.
        path: the file to write.
        title: shown above.
    """
    figure = Figure(figsize=(8, 4.5), dpi=130, layout="constrained", facecolor="white")
    axes = figure.subplots()
    train, validation = _points(records, "train"), _points(records, "validation")
    if train:
        axes.plot(*zip(*train, strict=True), color=BLUE, linewidth=1.2, alpha=0.85, label="training")
    if validation:
        axes.plot(
            *zip(*validation, strict=True), color=ORANGE, linewidth=2, marker="o", markersize=4, label="validation"
        )
        best_step, best_loss = min(validation, key=lambda point: point[1])
        axes.annotate(
            f"best {best_loss:.3f}", (best_step, best_loss), xytext=(0, -16), textcoords="offset points",
            ha="center", color=ORANGE, fontsize=9,
        )  # fmt: skip
    losses = [loss for _, loss in (*train, *validation)]
    if losses and min(losses) > 0 and max(losses) > 20 * min(losses):
        axes.set_yscale("log")  # a loss that falls near 0 shows nothing on a plain axis
    axes.set_title(_plain(title), loc="left", fontsize=12)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if train or validation:
        axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(str(path))


def _points(records: Sequence[dict[str, Any]], kind: str) -> list[tuple[int, float]]:
    return [
        (record["step"], record["loss"]) for record in records if record["kind"] == kind and record["loss"] is not None
    ]


def _wrapped(text: str, *, width: int = 36, max_lines: int = 4) -> str:
    lines = textwrap.wrap(_plain(text), width, max_lines=max_lines, placeholder=" ...")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that matplotlib draws as it is: a dollar sign would begin a formula."""
    return " ".join(text.split()).replace("$", r"\$")
