"""Pictures of a run: a contact sheet of pictures with true and generated captions, and the curve of its losses.

The contact sheet is laid out pixel by pixel with Pillow: every text is measured before it is placed, so that none
overlaps, and small pictures are enlarged without blur. The curve is drawn by matplotlib on a figure of its own, without
its global state, so that a program's other plots are left alone. Text is in DejaVu Sans, which comes with matplotlib:
characters that it lacks (Chinese, emoji) are drawn as boxes.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont

from systems.pixel_llm.data.images import to_rgb

__all__ = ["CaptionedPicture", "contact_sheet", "training_curve"]

BLUE, ORANGE, GREEN, GREY, BLACK, LINE = "#2563eb", "#ea580c", "#15803d", "#6b7280", "#111827", "#d1d5db"

# Of the contact sheet, in pixels. A page shows it at about two thirds of this size.
PICTURE_SIDE = 256
GAP, MARGIN, TEXT_GAP = 24, 28, 6
TITLE_SIZE, CAPTION_SIZE, REFERENCE_SIZE = 24, 17, 15
MAX_LINES = 6
LINE_SPACING = 1.3


# --- the contact sheet ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CaptionedPicture:
    """One cell of a contact sheet."""

    image: Image.Image
    caption: str
    """What the model says."""
    references: tuple[str, ...]
    """What people say; the first is shown."""


def contact_sheet(pictures: Sequence[CaptionedPicture], path: Path, *, title: str, columns: int = 4) -> None:
    """Write a PNG of pictures in a grid, under each what the model says and, where that differs, what is true.

    A caption that equals one of the references is green and ticked.

    Raises:
        ValueError: there is no picture, or no column.
    """
    if not pictures or columns < 1:
        raise ValueError(f"A contact sheet needs a picture and a column; found {len(pictures)}, {columns}.")
    columns = min(columns, len(pictures))
    width = 2 * MARGIN + columns * PICTURE_SIDE + (columns - 1) * GAP
    heading = _Text(title, size=TITLE_SIZE, colour=BLACK, width=width - 2 * MARGIN, max_lines=3)
    cells = [_Cell(picture) for picture in pictures]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    row_heights = [max(c.picture.height for c in row) + max(c.text_height for c in row) for row in rows]
    height = 2 * MARGIN + heading.height + (GAP // 2 if heading.height else 0) + sum(row_heights)
    height += (len(rows) - 1) * GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    heading.draw(draw, MARGIN, MARGIN)
    top = height - MARGIN - sum(row_heights) - (len(rows) - 1) * GAP
    for row, row_height in zip(rows, row_heights, strict=True):
        # Pictures of one row stand on one line, and their captions hang from it.
        baseline = top + max(cell.picture.height for cell in row)
        for column, cell in enumerate(row):
            cell.draw(sheet, draw, MARGIN + column * (PICTURE_SIDE + GAP), baseline)
        top += row_height + GAP
    sheet.save(path, format="PNG")


class _Cell:
    """A picture, scaled, and the texts under it, measured."""

    def __init__(self, shown: CaptionedPicture) -> None:
        self.picture = _fitted(to_rgb(shown.image))
        caption = shown.caption.strip()
        is_right = caption in {reference.strip() for reference in shown.references}
        self.texts = [
            _Text(
                f"✓ {caption}" if is_right else caption or "(nothing)", size=CAPTION_SIZE,
                colour=GREEN if is_right else BLACK,
            )
        ]  # fmt: skip
        if shown.references and not is_right:
            self.texts.append(_Text(f"true: {shown.references[0]}", size=REFERENCE_SIZE, colour=GREY))

    @property
    def text_height(self) -> int:
        return sum(TEXT_GAP + text.height for text in self.texts)

    def draw(self, sheet: Image.Image, draw: ImageDraw.ImageDraw, left: int, baseline: int) -> None:
        corner = (left + (PICTURE_SIDE - self.picture.width) // 2, baseline - self.picture.height)
        sheet.paste(self.picture, corner)
        # A hairline, so that white pictures have an edge.
        box = (*corner, corner[0] + self.picture.width - 1, baseline - 1)
        draw.rectangle(box, outline=LINE)
        top = baseline
        for text in self.texts:
            text.draw(draw, left, top + TEXT_GAP)
            top += TEXT_GAP + text.height


def _fitted(picture: Image.Image) -> Image.Image:
    """`picture` with its longer side PICTURE_SIDE: pixels stay visible as squares where it is enlarged."""
    scale = PICTURE_SIDE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    if scale > 1:
        # First by a whole factor, which is exact, then down to size, which softens the edges of the squares only.
        factor = math.ceil(scale)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)


class _Text:
    """Text broken into lines that fit a width, at most `max_lines` of them."""

    def __init__(
        self, text: str, *, size: int, colour: str, width: int = PICTURE_SIDE, max_lines: int = MAX_LINES
    ) -> None:
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        self._font = ImageFont.truetype(fonts / "DejaVuSans.ttf", size)
        self._colour = colour
        self._line_height = round(size * LINE_SPACING)
        self._lines = self._broken(text, width)
        if len(self._lines) > max_lines:
            last = self._lines[max_lines - 1]
            while last and self._font.getlength(f"{last} …") > width:
                last = last[:-1]
            self._lines = [*self._lines[: max_lines - 1], f"{last.rstrip()} …"]

    @property
    def height(self) -> int:
        return len(self._lines) * self._line_height

    def draw(self, draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
        for line in self._lines:
            draw.text((left, top), line, font=self._font, fill=self._colour)
            top += self._line_height

    def _broken(self, text: str, width: int) -> list[str]:
        lines: list[str] = []
        for word in _printable(text).split():
            if lines and self._font.getlength(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
                continue
            while self._font.getlength(word) > width:  # a word longer than a line
                fitting = next(n for n in range(len(word), 0, -1) if n == 1 or self._font.getlength(word[:n]) <= width)
                lines.append(word[:fitting])
                word = word[fitting:]
            lines.append(word)
        return lines


def _printable(text: str) -> str:
    """`text` without control characters and the like, which a font would draw as boxes or not take at all."""
    return "".join(character if character.isprintable() else " " for character in text)


# --- the curve --------------------------------------------------------------------------------------------------------


def training_curve(records: Sequence[dict[str, Any]], path: Path, *, title: str) -> None:
    """Write a PNG of the training and validation loss over the steps, below it CIDEr-D where validations measured it.

    Args:
        records: what `read_metrics` gives: "train" and "validation" records with `step` and `loss`; a "validation"
            may have `scores`, which may have `cider_d`.
        path: the file to write.
        title: shown above.
    """
    scores = _scores(records)
    figure = Figure(figsize=(8, 6.5 if scores else 4.5), dpi=130, layout="constrained", facecolor="white")
    if scores:
        axes, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        below.plot(*zip(*scores, strict=True), color=GREEN, linewidth=2, marker="o", markersize=4)
        _dress(below, ylabel="CIDEr-D")
        below.set_ylim(bottom=0)
    else:
        axes = figure.subplots()
    train, validation = _points(records, "train"), _points(records, "validation")
    if train:
        marker = "o" if len(train) == 1 else None  # one point makes no line
        axes.plot(*zip(*train, strict=True), color=BLUE, linewidth=1.2, alpha=0.85, marker=marker, label="training")
    if validation:
        axes.plot(
            *zip(*validation, strict=True), color=ORANGE, linewidth=2, marker="o", markersize=4, label="validation"
        )
    _make_room(axes, [loss for _, loss in (*train, *validation)])
    _dress(axes, ylabel="loss (nats a token)", xlabel="" if scores else "step")
    if validation:
        best_step, best_loss = min(validation, key=lambda point: point[1])
        axes.plot(
            best_step, best_loss, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=ORANGE,
            linestyle="none", label=f"best validation: {best_loss:.3f} at step {best_step:,}",
        )  # fmt: skip
    if train or validation:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "no loss was logged", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_title(_printable(title), loc="left", fontsize=12, color=BLACK, parse_math=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in letters that the font lacks
        FigureCanvasAgg(figure).print_png(str(path))


def _make_room(axes: Axes, losses: Sequence[float]) -> None:
    if losses and min(losses) > 0 and max(losses) > 20 * min(losses):
        axes.set_yscale("log")  # a loss that falls near 0 shows nothing on a plain axis
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _dress(axes: Axes, *, ylabel: str, xlabel: str = "step") -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _points(records: Sequence[dict[str, Any]], kind: str) -> list[tuple[int, float]]:
    return [
        (record["step"], record["loss"])
        for record in records
        if record.get("kind") == kind and record.get("loss") is not None
    ]


def _scores(records: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    return [
        (record["step"], scores["cider_d"])
        for record in records
        if record.get("kind") == "validation" and (scores := record.get("scores")) and scores.get("cider_d") is not None
    ]
