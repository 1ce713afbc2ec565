"""Every setting refuses a bad value and tells what it accepts, by its name in Python and by its flag on a command line.

The settings are read from the three dataclasses, so that a new one without a bad value here fails. The page of all
settings is what the dataclasses say.
"""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from systems.pixel_llm.cli.main import main
from systems.pixel_llm.cli.settings_page import settings_page
from systems.pixel_llm.data.options import DataOptions
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.config import PixelLLMConfig
from systems.pixel_llm.settings import accepted
from systems.pixel_llm.training.options import TrainingOptions

OWNERS = (TrainingOptions, DataOptions, PixelLLMConfig)

SWITCH = ...
"""In the place of what is accepted: a flag that has no value."""

# Setting -> a bad value as a word of a command line, the same in Python, and what is told to be accepted.
BAD = {
    "learning_rate": ("0", 0.0, "a number above 0"),
    "weight_decay": ("-0.1", -0.1, "a number at least 0"),
    "learning_rates": ("encoder=x", "encoder=x", "PART=RATE with commas between them, each rate a number above 0"),
    "freeze": ("encoder,,decoder", "encoder,,decoder", "names of parts with commas between them"),
    "schedule": ("wave", "wave", ("cosine", "linear", "constant", "wsd")),
    "warmup_fraction": ("1", 1.0, "a number at least 0 and below 1"),
    "warmup_steps": ("-1", -1, "a whole number at least 0"),
    "decay_fraction": ("0", 0.0, "a number above 0 and at most 1"),
    "min_learning_rate_fraction": ("1", 1.0, "a number at least 0 and below 1"),
    "gradient_accumulation_steps": ("0", 0, "a whole number at least 1"),
    "label_smoothing": ("1", 1.0, "a number at least 0 and below 1"),
    "max_grad_norm": ("-1", -1.0, "a number above 0"),
    "ema_decay": ("1", 1.0, "a number above 0 and below 1"),
    "early_stopping_patience": ("0", 0, "a whole number at least 1"),
    "early_stopping_min_delta": ("-0.5", -0.5, "a number at least 0"),
    "max_bad_steps": ("0", 0, "a whole number at least 1"),
    "precision": ("fp8", "fp8", ("auto", "fp32", "bf16", "fp16")),
    "gradient_checkpointing": ("maybe", "maybe", SWITCH),
    "compile": ("maybe", "maybe", SWITCH),
    "seed": ("-1", -1, "a whole number at least 0"),
    "deterministic": ("maybe", "maybe", SWITCH),
    "max_steps": ("0", 0, "a whole number at least 1"),
    "max_minutes": ("nan", math.nan, "a finite number above 0"),
    "metric": ("bleu", "bleu", ("auto", "val_loss", "cider_d")),
    "checkpoint_async": ("maybe", "maybe", "True"),
    "save_optimizer": ("best", "best", ("all", "latest")),
    "score_every": ("-1", -1, "a whole number at least 0"),
    "save_every_steps": ("0", 0, "a whole number at least 1"),
    "max_checkpoints": ("0", 0, "a whole number at least 1"),
    "log_to": ("paper", "paper", "tensorboard or wandb, or both with a comma between"),
    "progress": ("spinner", "spinner", ("auto", "bar", "off")),
    "format": ("xml", "xml", ("auto", "text", "coco", "parquet")),
    "captions_per_file": ("two", "two", ("one", "lines")),
    "weights": ("2,0", (2.0, 0.0), "each above 0 and at most 1000"),
    "repeats": ("maybe", "maybe", ("ignore", "use")),
    "batch_size": ("0", 0, "a whole number at least 1 or 'auto'"),
    "num_workers": ("-1", -1, "a whole number at least 0"),
    "worker_timeout_seconds": ("-1", -1.0, "a number at least 0"),
    "cache": ("maybe", "maybe", SWITCH),
    "augment": ("mirror", "mirror", "some of crop, color, flip with commas between them"),
    "validation_fraction": ("1", 1.0, "a number above 0 and below 1"),
    "caption_choice": ("best", "best", ("sample", "first", "all")),
    "on_bad_sample": ("ignore", "ignore", ("skip", "raise")),
    "max_bad_share": ("1.5", 1.5, "a number from 0 to 1"),
    "image_size": ("0", 0, "one whole number, or two, (height, width), each from 1 to 65536"),
    "patch_size": ("0", 0, "a whole number from 1 to 65536"),
    "stem": ("mlp", "mlp", ("patch", "conv")),
    "vision_embed_dim": ("0", 0, "a whole number from 1 to 65536"),
    "vision_num_layers": ("0", 0, "a whole number from 1 to 65536"),
    "vision_num_heads": ("0", 0, "a whole number from 1 to 65536"),
    "text_embed_dim": ("70000", 70000, "a whole number from 1 to 65536"),
    "text_num_layers": ("0", 0, "a whole number from 1 to 65536"),
    "text_num_heads": ("-2", -2, "a whole number from 1 to 65536"),
    "mlp_ratio": ("65", 65.0, "a number above 0 and at most 64"),
    "vocab_size": ("258", 258, "a whole number from 259 to 16777216"),
    "max_seq_len": ("1", 1, "a whole number from 2 to 65536"),
    "dropout": ("1", 1.0, "a number at least 0 and below 1"),
    "stochastic_depth": ("-0.1", -0.1, "a number at least 0 and below 1"),
}  # fmt: skip
ANY_TEXT = {"manifest", "val_manifest", "image_column", "caption_column"}
"""Every text is a path or the name of a column: whether there is one, only the data tell."""


def settings() -> list[tuple[type, str]]:
    return [(owner, each.name) for owner in OWNERS for each in fields(owner)]


def checked() -> Any:
    cases = [(owner, name, *BAD[name]) for owner, name in settings() if name in BAD]
    return pytest.mark.parametrize(("owner", "name", "word", "value", "wanted"), cases, ids=[case[1] for case in cases])


def in_one_line(text: str) -> str:
    """Without the frame that some messages are set in."""
    return " ".join(text.replace("│", " ").replace("|", " ").split())


def test_every_setting_has_a_bad_value_here():
    names = [name for _, name in settings()]
    assert len(names) == len(set(names)), "a flag of two meanings"
    assert {*names} - {*BAD} == ANY_TEXT
    assert {*BAD} <= {*names}


@pytest.mark.parametrize("name", sorted(ANY_TEXT))
def test_what_takes_any_text_has_nothing_to_check(name):
    hint = get_type_hints(DataOptions, include_extras=True)[name]
    assert set(get_args(hint)) in ({str, type(None)}, {Path, type(None)})
    assert accepted(hint).form is None
    with pytest.raises(ConfigError, match=rf"^{name} must be (text|a path), or None, not 3\.$"):
        DataOptions(**{name: 3})


@checked()
def test_in_python_a_bad_value_names_its_setting_and_what_is_accepted(owner, name, word, value, wanted):
    with pytest.raises(ConfigError) as raised:
        owner(**{name: value})
    message = str(raised.value)
    assert message.startswith(f"{name} must be ")
    if wanted is SWITCH:
        wanted = "True or False"
    if isinstance(wanted, tuple):
        assert all(repr(choice) in message for choice in wanted)
    else:
        assert wanted in message
    assert repr(value) in message


@checked()
def test_on_the_command_line_a_bad_value_names_its_flag_and_what_is_accepted(
    capsys, in_tmp_path, owner, name, word, value, wanted
):
    flag = f"--{name.replace('_', '-')}"
    try:
        status = main(["train", "DATA", "--device", "cpu", f"{flag}={word}"])
    except SystemExit as ended:  # the parser ends the process by itself
        status = ended.code
    captured = capsys.readouterr()
    told = in_one_line(captured.err)
    assert (status, captured.out) == (2, "")
    assert flag in told
    if wanted is SWITCH:
        wanted = "takes no value"
    for each in wanted if isinstance(wanted, tuple) else [wanted]:
        assert each in told
    assert "Traceback" not in told
    assert name not in told or "_" not in name, "Python's name puzzles who typed a flag"
    assert list(in_tmp_path.iterdir()) == []


def test_the_table_of_bad_values_tells_all_choices():
    for owner in OWNERS:
        for name, hint in get_type_hints(owner).items():
            kinds = [hint, *get_args(hint)]
            choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), None)
            if choices is not None and int not in kinds:  # else the words are told beside a range
                assert isinstance(BAD[name][2], tuple), name
                assert {*BAD[name][2]} <= {*choices}, name


def test_the_page_of_all_settings_is_what_the_dataclasses_say(repository_root):
    page = repository_root / "systems" / "pixel_llm" / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_page(), "settings changed: run `make docs`"


def test_the_page_has_every_setting_with_its_flag():
    page = settings_page()
    for _, name in settings():
        assert f"\n| `{name}`<br>`--{name.replace('_', '-')}` | " in page
