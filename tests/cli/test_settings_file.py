"""Options as a TOML file: what is written is read back, and what cannot be meant is refused by file and name."""

from pathlib import Path

import pytest

from systems.pixel_llm.cli.settings_file import read_settings, write_settings
from systems.pixel_llm.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    def read_text(text, encoding="utf-8"):
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding=encoding)
        return read_settings(path)

    return read_text


def test_values_come_back_as_they_were(tmp_path):
    settings = {
        "learning_rate": 0.001, "max_grad_norm": None, "schedule": "constant", "image_size": (96, 128), "seed": 3,
        "manifest": Path("a folder/grün.json"), "preset": "tiny",
    }  # fmt: skip
    write_settings(tmp_path / "settings.toml", settings, defaults={"max_grad_norm": 1.0})
    assert read_settings(tmp_path / "settings.toml") == settings
    assert [each.name for each in tmp_path.iterdir()] == ["settings.toml"]


def test_none_is_left_out_where_it_is_the_default(tmp_path):
    write_settings(tmp_path / "settings.toml", {"max_steps": None}, defaults={"max_steps": None})
    assert read_settings(tmp_path / "settings.toml") == {}


def test_what_is_said_on_the_command_line_alone_is_not_written(tmp_path):
    settings = {"out": Path("run"), "resume": True, "config": Path("x.toml"), "data": Path("pictures"), "seed": 1}
    write_settings(tmp_path / "settings.toml", settings, defaults={})
    assert read_settings(tmp_path / "settings.toml") == {"seed": 1}
    assert 'data = "pictures"' in (tmp_path / "settings.toml").read_text(encoding="utf-8")


def test_a_folder_whose_name_is_no_text_can_be_recorded(tmp_path):
    write_settings(tmp_path / "settings.toml", {"data": Path("\udcff"), "seed": 1}, defaults={})
    assert read_settings(tmp_path / "settings.toml") == {"seed": 1}


@pytest.mark.parametrize("name", ["device", "val", "max_steps", "schedule"])
def test_none_is_understood_by_every_option_that_may_be_left_out(read, name):
    assert read(f'{name} = "none"\n') == {name: None}


def test_whole_numbers_do_for_numbers_and_lists_for_sizes(read):
    settings = read("learning_rate = 1\nimage_size = [32, 48]\n")
    assert settings == {"learning_rate": 1.0, "image_size": (32, 48)}
    assert isinstance(settings["learning_rate"], float)


def test_a_list_may_have_as_many_numbers_as_there_are(read):
    assert read("weights = [1, 2.5, 3]\n") == {"weights": (1.0, 2.5, 3.0)}
    assert read('weights = "none"\n') == {"weights": None}


def test_the_mark_that_windows_editors_write_is_no_part_of_the_text(read):
    assert read("seed = 1\n", encoding="utf-8-sig") == {"seed": 1}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("learning_rat = 1\n", r"settings\.toml: unknown option 'learning_rat'\. Did you mean 'learning_rate'\?"),
        ("learning-rate = 1\n", r"Did you mean 'learning_rate'\?"),
        ('out = "run"\n', "unknown option 'out'"),
        ("[training]\nseed = 1\n", "unknown option 'training'. Options stand in one flat table"),
        ('epochs = "x"\n', r"settings\.toml: epochs must be a whole number or \"none\", not 'x'"),
        ("epochs = true\n", "epochs must be a whole number"),
        ("epochs = 1.5\n", "epochs must be a whole number"),
        ("image_size = [32]\n", r"image_size must be a whole number or \[a whole number, a whole number\]"),
        ('image_size = [32, "x"]\n', "image_size must be a whole number, not 'x'"),
        ("weights = 2\n", r"weights must be \[a number, \.\.\.\] or \"none\", not 2"),
        ('weights = [1, "x"]\n', "weights must be a number, not 'x'"),
        ("val = 3\n", "val must be a path in quotes"),
        ('precision = "fp8"\n', "precision must be 'auto' or 'fp32' or 'bf16' or 'fp16', not 'fp8'"),
        ("seed = \n", r"settings\.toml: not a readable TOML file"),
    ],
)
def test_what_cannot_be_meant_is_refused(read, text, wanted):
    with pytest.raises(ConfigError, match=wanted):
        read(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: there is no such settings file"):
        read_settings(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="not a readable TOML file"):
        read_settings(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a readable TOML file"):
        read_settings(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    "text", ["seed = -1\n", "image_size = 50\n", 'stem = "conv"\npatch_size = 12\nimage_size = 48\n']
)
def test_a_value_out_of_range_is_told_with_its_file(pixel_llm, in_tmp_path, text):
    Path("config.toml").write_text(text, encoding="utf-8")
    ended = pixel_llm("train", "pictures", "--device", "cpu", "--config", "config.toml")
    assert ended.status == 2
    assert ended.err.startswith("pixel-llm: config.toml: ")
