"""The model card: README.md of an exported model, with the header that model hubs read.

`model_card` puts the facts of the run and of the exported folder into the template beside this module. Every value
that the template shows is escaped, unless it is Markdown made here (`Verbatim`). The header follows the model card
metadata of the Hugging Face Hub: https://huggingface.co/docs/hub/model-cards. What a card should tell is from
M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, section 4. No torch is loaded by this module.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from systems.pixel_llm import __version__
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.evaluation.card_scores import CardScores, Row, ScoreLine
from systems.pixel_llm.evaluation.markdown import Verbatim, code, escaped, one_line, yaml_header
from systems.pixel_llm.evaluation.run_facts import RunFacts
from systems.pixel_llm.models.config import PixelLLMConfig

__all__ = ["CardModel", "check_language", "check_license", "model_card"]

_TEMPLATE = Path(__file__).with_name("model_card.md")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_TASK = {"type": "image-to-text", "name": "Image captioning"}
_ROWS = {
    "constant": "one caption for all",
    "nearest": "the caption of the most similar training picture",
    "human": "people",
}
DIGITS = 4
"""Decimals of scores."""


@dataclass(frozen=True, kw_only=True)
class CardModel:
    """The exported model, as the card tells it."""

    name: str
    """Of the exported folder."""
    config: PixelLLMConfig
    num_tokens: int
    """Of the tokenizer."""
    num_parameters: int
    dtype: str
    """Of the stored weights: fp32, bf16 or fp16."""
    num_bytes: int
    """Of the exported folder without the card."""
    sha256: str
    """Of model.safetensors."""


def check_license(name: str) -> None:
    """Make sure that `name` can be the identifier of a licence.

    Raises:
        ConfigError: it cannot.
    """
    if not _LICENSE.fullmatch(name):
        raise ConfigError(
            f"license must be an identifier in small letters such as apache-2.0, cc-by-4.0 or other, not {name!r}."
        )


def check_language(name: str) -> None:
    """Make sure that `name` can be the code of a language.

    Raises:
        ConfigError: it cannot.
    """
    if not _LANGUAGE.fullmatch(name):
        raise ConfigError(f"language must be a code of two or three small letters (ISO 639) such as en, not {name!r}.")


def model_card(
    model: CardModel, facts: RunFacts, *, license_name: str | None = None, language: str | None = None
) -> str:
    """The text of README.md.

    Args:
        model: what was exported.
        facts: what is known of the run.
        license_name: the identifier of the licence, such as "apache-2.0"; without it the card says that none is given.
        language: the code of the language of the captions, such as "en".
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATE.parent),
        autoescape=False,  # that is for HTML; `finalize` escapes for Markdown
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template(_TEMPLATE.name).render(
        header=_header(model, facts, license_name=license_name, language=language),
        model=model,
        facts=facts,
        folder=model.name if _PLAIN_NAME.fullmatch(model.name) else "FOLDER",
        height_width=model.config.image_height_width,
        kilobytes=f"{model.num_bytes / 1000:,.0f}",
        license=license_name,
        language=language,
        version=__version__,
        settings=_settings(model, facts),
        table=_score_table,
        row_name=_row_name,
        code=code,
        quoted=_quoted,
        percent=_percent,
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


def _shown(value: Any) -> str:
    """What the template shows of a value."""
    if isinstance(value, Verbatim):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escaped(str(value))


def _quoted(text: str) -> Verbatim:
    """A caption: in quotation marks, so that no sign stands at the start of a line."""
    return Verbatim(f"“{escaped(text)}”")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share in (0, 1) or 0.01 <= share <= 0.99 else f"{share:.1%}"


# --- the header -------------------------------------------------------------------------------------------------------


def _header(model: CardModel, facts: RunFacts, *, license_name: str | None, language: str | None) -> Verbatim:
    fields: dict[str, Any] = {}
    if license_name is not None:
        fields["license"] = license_name
    if language is not None:
        fields["language"] = [language]
    fields["library_name"] = "pixel-llm"
    fields["pipeline_tag"] = _TASK["type"]
    fields["tags"] = ["image-captioning", "image-to-text", "pixel-llm"]
    if results := [_result(scores) for scores in facts.scores if scores.scores]:
        fields["model-index"] = [{"name": model.name, "results": results}]
    return yaml_header(fields)


def _result(scores: CardScores) -> dict[str, Any]:
    name = ", ".join(scores.data)
    identifier = re.sub(r"[^A-Za-z0-9._-]+", "-", one_line(name)).strip("-.") or "data"
    return {
        "task": _TASK,
        "dataset": {"type": identifier, "name": name, **({} if scores.split is None else {"split": scores.split})},
        "metrics": [
            {"type": line.metric_type, "value": round(line.value, DIGITS), "name": line.title} for line in scores.scores
        ],
    }


# --- the tables -------------------------------------------------------------------------------------------------------


def _settings(model: CardModel, facts: RunFacts) -> list[tuple[str, str]]:
    """(name, value) of all settings, the model's first."""
    settings: Mapping[str, Any] = {**model.config.to_dict(), **(facts.settings or {})}
    return [(name, _setting(value)) for name, value in settings.items() if value is not None]


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _score_table(scores: CardScores) -> Verbatim:
    """A row a score: the model, its interval, and beside it what it is compared with."""
    rows = [row for row in scores.rows if row.values]
    head = ["Score", "This model", "95 % interval", *map(_row_name, rows)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    lines += [_score_cells(line, rows) for line in scores.scores]
    return Verbatim("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def _score_cells(line: ScoreLine, rows: list[Row]) -> list[str]:
    interval = "" if line.interval is None else "{:.{n}f} to {:.{n}f}".format(*line.interval, n=DIGITS)
    values = [f"{row.values[line.key]:.{DIGITS}f}" if line.key in row.values else "" for row in rows]
    return [escaped(line.title), f"{line.value:.{DIGITS}f}", interval, *values]


def _row_name(row: Row) -> Verbatim:
    return escaped(_ROWS.get(row.key, row.key))
