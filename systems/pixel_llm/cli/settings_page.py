"""`docs/settings.md`: every setting with its flag, what it accepts, its default and what it does, by owner.

All of it is read from the dataclasses that the settings are fields of, so the page cannot say anything else than what
the commands do; a test holds the page that is kept against what is made here. `make docs` writes it.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from systems.pixel_llm.cli import options as commands
from systems.pixel_llm.cli.caption_options import DEFAULT_NUM_BEAMS
from systems.pixel_llm.cli.flag_values import NONE
from systems.pixel_llm.cli.help_texts import help_texts
from systems.pixel_llm.data.options import DataOptions
from systems.pixel_llm.models.config import PRESETS, PixelLLMConfig
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.settings import BOTH, told_values
from systems.pixel_llm.training.options import TrainingOptions

__all__ = ["settings_page"]

OPENING = f"""\
# Settings

A setting is a field of a frozen dataclass: `learning_rate` in Python and in `options.toml`, `--learning-rate` on a
command line, where `{NONE}` is None. A value that is not accepted is refused before anything else is done. This page is
made from those dataclasses: `make docs` writes it anew."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The settings of one dataclass, and what to say before them."""

    title: str
    opening: str
    options: type[Any]


SECTIONS = (
    Section(
        title="Training",
        opening="Flags of `train`, by name in `Trainer(...)`; together they are "
        "`systems.pixel_llm.training.TrainingOptions`.",
        options=TrainingOptions,
    ),
    Section(
        title="Data",
        opening="Flags of `train`; together they are `systems.pixel_llm.data.DataOptions`. `inspect`, `split` and "
        "`evaluate` have the first ones, which say how captions are read.",
        options=DataOptions,
    ),
    Section(
        title="Model",
        opening="Flags of `train`, by name in `create_pixel_llm(...)`; together they are "
        "`systems.pixel_llm.models.PixelLLMConfig`. On the command line the defaults are those of the preset.",
        options=PixelLLMConfig,
    ),
    Section(title="The run", opening="Flags of `train`.", options=commands.RunOptions),
    Section(
        title="Generation",
        opening="Flags of `caption` and `evaluate`, by name in `generate(...)`; together they are "
        "`systems.pixel_llm.models.generation_options.GenerationOptions`. The two commands search with "
        f"{DEFAULT_NUM_BEAMS} beams unless they are told otherwise.",
        options=GenerationOptions,
    ),
    Section(title="`caption`", opening="Beside those of generation.", options=commands.CaptionOptions),
    Section(title="`evaluate`", opening="Beside those of generation and of reading.", options=commands.EvaluateOptions),
    Section(title="`inspect`", opening="Beside those of reading.", options=commands.InspectOptions),
    Section(title="`split`", opening="Beside those of reading.", options=commands.SplitOptions),
    Section(title="`export`", opening="", options=commands.ExportOptions),
    Section(title="`report`", opening="", options=commands.ReportOptions),
    Section(title="`checkpoints`", opening="", options=commands.CheckpointsOptions),
    Section(title="`demo`", opening="", options=commands.DemoOptions),
)


def settings_page() -> str:
    """The page, in Markdown."""
    parts = [OPENING]
    for section in SECTIONS:
        parts += filter(None, [f"## {section.title}", section.opening, "\n".join(_table(section.options))])
        if section.options is PixelLLMConfig:
            parts.append("\n".join(_presets()))
    return "\n\n".join(parts) + "\n"


def _table(options: type[Any]) -> Iterator[str]:
    yield "| setting | accepts | default | |"
    yield "|---|---|---|---|"
    hints, helps = get_type_hints(options, include_extras=True), help_texts(options)
    for each in fields(options):
        hint = hints[each.name]
        if is_dataclass(hint):  # it has a section of its own
            continue
        words = _escaped(helps[each.name])
        yield f"| {_name(each.name, hint)} | {_accepts(hint)} | {_default(each)} | {words} |"


def _name(name: str, hint: Any) -> str:
    """The name and the flag, or the word that stands for it where it has no flag."""
    extras = [each for each in get_args(hint)[1:] if hasattr(each, "metavar")]
    for extra in extras:
        if extra.metavar is not None:
            return f"`{extra.metavar}`"
        if extra.name is not None:
            return f"`{name}`<br>`--{extra.name}`"
    return f"`{name}`<br>`--{name.replace('_', '-')}`"


def _accepts(hint: Any) -> str:
    told = _escaped(told_values(hint, none=f"`{NONE}`"))
    return "given or not" if told == BOTH else re.sub(r"'([\w-]+)'", r"`\1`", told).removeprefix("one of ")


def _escaped(text: str) -> str:
    """Text that stands in a table as it is written."""
    return re.sub(r"([|<*])", r"\\\1", text)


def _default(each: Field[Any]) -> str:
    value = each.default if each.default_factory is MISSING else each.default_factory()
    if value is MISSING:
        return ""
    if isinstance(value, bool):
        return "given" if value else "not given"
    return "nothing" if value in ("", ()) else f"`{NONE if value is None else value}`"


def _presets() -> Iterator[str]:
    yield "| preset | " + " | ".join(f"`{name}`" for name in PRESETS) + " |"
    yield "|---|" + "---|" * len(PRESETS)
    for name in [*PRESETS["tiny"], "learning_rate"]:
        values = [{**PRESETS[preset], "learning_rate": commands.LEARNING_RATES[preset]}[name] for preset in PRESETS]
        yield f"| `{name}` | " + " | ".join(f"`{value}`" for value in values) + " |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(settings_page(), encoding="utf-8")
