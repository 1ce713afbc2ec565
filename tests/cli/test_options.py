"""Where the options of `train` come from: the preset, options.toml on --resume, --config, the flags; later wins."""

import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from systems.pixel_llm.cli.flags import in_flags
from systems.pixel_llm.cli.options import (
    LEARNING_RATES,
    parse_caption,
    parse_demo,
    parse_inspect,
    parse_split,
    parse_train,
)
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.config import PRESETS


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def parse(*words):
    return parse_train(["pictures", "--device", "cpu", *map(str, words)])


def refused(capsys, *words, parser=parse_train):
    with pytest.raises((SystemExit, ConfigError)) as ended:
        parser([str(word) for word in words])
    if isinstance(ended.value, ConfigError):
        return str(ended.value)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    # The message is set in a box and broken into lines.
    return " ".join(captured.err.replace("│", " ").replace("|", " ").split())


# --- precedence -------------------------------------------------------------------------------------------------------


def test_without_flags_a_processor_gets_the_tiny_preset():
    command = parse()
    assert command.run.preset == "tiny"
    assert command.model.vision_embed_dim == PRESETS["tiny"]["vision_embed_dim"]
    assert command.training.learning_rate == LEARNING_RATES["tiny"]
    assert command.data == (Path("pictures"),)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_the_model_and_the_learning_rate(preset):
    command = parse("--preset", preset)
    assert {name: getattr(command.model, name) for name in PRESETS[preset]} == PRESETS[preset]
    assert command.training.learning_rate == LEARNING_RATES[preset]


def test_each_layer_wins_over_the_one_before(in_tmp_path):
    write(in_tmp_path / "run" / "options.toml", 'preset = "small"\nseed = 1\nbatch_size = 1\nmax_steps = 1\n')
    config = write(in_tmp_path / "config.toml", "batch_size = 2\nmax_steps = 2\n")
    command = parse("--out", "run", "--resume", "--config", config, "--max-steps", 3)
    assert command.model.vision_embed_dim == PRESETS["small"]["vision_embed_dim"]
    assert (command.training.seed, command.dataset.batch_size, command.training.max_steps) == (1, 2, 3)


def test_options_of_a_run_count_only_with_resume(in_tmp_path):
    write(in_tmp_path / "run" / "options.toml", "seed = 7\n")
    assert parse("--out", "run").training.seed == 0
    assert parse("--out=run", "--resume").training.seed == 7


def test_a_file_may_name_the_preset_and_single_settings_of_it(in_tmp_path):
    config = write(in_tmp_path / "config.toml", 'preset = "base"\nvision_num_layers = 2\n')
    model = parse("--config", config).model
    assert (model.vision_embed_dim, model.vision_num_layers) == (PRESETS["base"]["vision_embed_dim"], 2)


def test_the_preset_flag_wins_over_a_file_without_settings_of_a_model(in_tmp_path):
    config = write(in_tmp_path / "config.toml", 'preset = "base"\nseed = 3\n')
    command = parse("--config", config, "--preset", "tiny")
    assert (command.run.preset, command.model.vision_embed_dim, command.training.seed) == ("tiny", 192, 3)


def test_the_preset_flag_clashes_with_a_file_that_spells_another_model_out(in_tmp_path):
    config = write(in_tmp_path / "config.toml", 'preset = "base"\nvision_embed_dim = 768\n')
    with pytest.raises(
        ConfigError, match=r"--preset tiny clashes with .*config.toml.*preset = 'base'.*vision_embed_dim"
    ):
        parse("--config", config, "--preset", "tiny")


def test_none_on_the_command_line_takes_a_bound_away(in_tmp_path):
    config = write(in_tmp_path / "config.toml", "max_steps = 5\nmax_grad_norm = 2.0\n")
    training = parse("--config", config, "--max-steps", "none", "--max-grad-norm", "None").training
    assert (training.max_steps, training.max_grad_norm) == (None, None)


# --- single values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"), [("112", 112), ("96x128", (96, 128)), ("96X128", (96, 128)), ("96,128", (96, 128))]
)
def test_a_size_is_one_word_so_that_data_may_follow_it(text, size):
    command = parse_train(["--preset", "tiny", "--image-size", text, "pictures"])
    assert (command.model.image_size, command.data) == (size, (Path("pictures"),))


@pytest.mark.parametrize(
    "words",
    [
        ["one", "two", "--weights", "2,0.5", "--resume", "--out", "run"],
        ["--weights=2,0.5", "one", "--resume", "two", "--out", "run"],
        ["one", "--out", "run", "--weights", "2,.5", "--resume", "two"],
        ["--out", "run", "--resume", "--weights", "2,0.5", "one", "two"],
    ],
)
def test_folders_may_stand_anywhere(words, in_tmp_path):
    command = parse_train([*words, "--device", "cpu"])
    assert command.data == (Path("one"), Path("two"))
    assert (command.dataset.weights, command.run.resume, command.run.out) == ((2.0, 0.5), True, Path("run"))


def test_inspect_takes_several_folders_too(capsys):
    options = parse_inspect(["one", "--weights", "2,1", "--num-workers", "2", "two"])
    assert (options.data, options.reading.weights) == ((Path("one"), Path("two")), (2.0, 1.0))
    assert "name at least one folder of captioned pictures, DATA" in refused(capsys, parser=parse_inspect)


def test_underscores_and_equals_signs_are_understood():
    assert parse("--max_steps=3").training.max_steps == 3


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--epochs", "x"], "--epochs: expected a whole number or none, not 'x'"),
        (["--batch-size", "1.5"], "--batch-size: expected a whole number or auto, not '1.5'"),
        (["--learning-rate", "fast"], "--learning-rate: expected a number, not 'fast'"),
        (["--image-size", "2x"], "expected a side such as 112, or HEIGHTxWIDTH such as 96x128, not '2x'"),
        (["--image-size", "50"], "--image-size=50 is not a multiple of --patch-size=16"),
        (["--vision-embed-dim", "100", "--vision-num-heads", "3"], "--vision-embed-dim=100 is not a multiple of"),
        (["--stem", "conv", "--patch-size", "12", "--image-size", "48"], "--stem='conv'"),
        (["--epochs", "0"], "--epochs must be a whole number at least 1, or none, not 0"),
        (["--learning-rate", "-1"], "--learning-rate must be a number above 0, not -1.0"),
        (["--max-minutes", "nan"], "--max-minutes must be a finite number above 0, or none, not nan"),
        (["--num-workers", "-1"], "--num-workers must be a whole number at least 0, or none, not -1"),
        (["--validation-fraction", "1"], "--validation-fraction must be a number above 0 and below 1, not 1.0"),
        (["--precision", "fp8"], "fp8"),
        (["--preset", "huge"], "huge"),
        (["--learning-rat", "1"], "--learning-rate"),
        (["--weights", "2,x"], "--weights: expected numbers with commas between them, such as"),
        (["--weights", "2,0"], "each above 0 and at most 1000, or none, not (2.0, 0.0). A folder"),
        (["--weights", "nan"], "--weights must be"),
        (["--repeats", "maybe"], "--repeats"),
        (["--out"], "--out"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_flag(capsys, words, wanted):
    assert wanted in refused(capsys, "pictures", "--device", "cpu", *words)


def test_data_is_asked_for_by_the_name_that_help_uses(capsys):
    assert "DATA" in refused(capsys, "--device", "cpu")


def test_caption_needs_a_run_and_a_picture(capsys):
    assert "RUN" in refused(capsys, parser=parse_caption)
    assert "name at least one picture" in refused(capsys, "run", parser=parse_caption)
    options = parse_caption(["run", "--batch-size", "2", "a.png", "b.png"])
    assert (options.run, options.pictures) == (Path("run"), (Path("a.png"), Path("b.png")))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--max-minutes", "0"], "--max-minutes must be a number above 0"),
        (["--num-pictures", "0"], "--num-pictures must be a whole number at least 1"),
        (["--seed", "-1"], "--seed must be a whole number at least 0"),
    ],
)
def test_the_demo_checks_its_ranges(capsys, words, wanted):
    assert wanted in refused(capsys, *words, parser=parse_demo)


def test_help_of_train_shows_every_field_and_no_more_than_one_line_of_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_train(["pictures", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    command = parse()
    for part in (command.run, command.dataset, command.model, command.training):
        for each in fields(part):
            assert re.search(rf"--{each.name.replace('_', '-')}[ ,]", shown), each.name
    assert shown.startswith("usage: pixel-llm train [-h] [OPTIONS] DATA...\n")


@pytest.mark.parametrize(
    ("parser", "sentences"),
    [
        (
            parse_train,
            ["in a file in the folder PIXEL_LLM_CACHE (~/.cache/pixel-llm), where later epochs and runs find"],
        ),
        (parse_inspect, ["The presets of train have 64 (tiny), 128 (small) and 224 (base).", "in one line. (default"]),
        (parse_split, ["Left out: found by looking, else caption files beside the pictures. (default"]),
        (parse_caption, ["Run folder (its best checkpoint is taken, else the newest), or one checkpoint."]),
    ],
)
def test_help_breaks_its_lines_at_the_edge_and_nowhere_else(capsys, monkeypatch, parser, sentences):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parser(["--help"])
    lines = [line.strip("│|").rstrip() for line in capsys.readouterr().out.splitlines()]
    of_options = [line for line in lines if line.startswith(" " * 18) and line.strip()]
    for line, following in pairwise(lines):
        if line in of_options and following in of_options:
            # The first word of the next line would not have fitted into the 76 columns between the frame.
            assert len(line) + 1 + len(following.split()[0]) > 76, (line, following)
    text = " ".join(" ".join(lines).split())
    assert all(sentence in text for sentence in sentences)


def test_the_presets_that_help_of_inspect_tells_are_those_of_train():
    sides = {name: preset["image_size"] for name, preset in PRESETS.items()}
    assert sides == {"tiny": 64, "small": 128, "base": 224}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("seed must be a whole number, or None, not 'x'.", "--seed must be a whole number, or none, not 'x'."),
        ("they need do_sample=True.", "they need --do-sample."),
        ("For the likeliest caption: do_sample=False.", "For the likeliest caption: no --do-sample."),
        ("freeze: 'encodr' takes no parameter.", "--freeze: 'encodr' takes no parameter."),
        ("top_k=3 is above max_top_k_here", "--top-k=3 is above max_top_k_here"),
        ("The seed of a run, in runs/seed=3", "The seed of a run, in runs/seed=3"),
        ("--top-k is given", "--top-k is given"),
    ],
)
def test_what_a_record_says_is_told_in_flags(message, told):
    assert in_flags(message, ["seed", "do_sample", "freeze", "top_k"]) == told


def test_a_switch_that_a_resumed_run_has_on_may_be_given_again_or_turned_off(tmp_path):
    (tmp_path / "options.toml").write_text('preset = "tiny"\ncache = true\n', encoding="utf-8")
    for flags, expected in (([], True), (["--cache"], True), (["--no-cache"], False)):
        command = parse_train(["pictures", "--out", str(tmp_path), "--resume", *flags])
        assert command.dataset.cache is expected
