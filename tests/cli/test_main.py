"""Finding the command, and turning every outcome into a message and an exit status."""

import errno
import json
import logging
import os
import subprocess
import sys

import pytest

from systems.pixel_llm import __version__
from systems.pixel_llm.cli import main as main_module
from systems.pixel_llm.cli.main import COMMANDS, main
from systems.pixel_llm.errors import DatasetError


@pytest.fixture
def failing_with(monkeypatch, tmp_path):
    """Makes `pixel-llm caption` fail with an error of the test's choice, beyond what a test could bring about."""

    def make(error):
        from systems.pixel_llm.cli import caption

        def run(options):
            raise error

        monkeypatch.setattr(caption, "run", run)

    return make


def test_without_arguments_the_commands_are_shown_as_wrong_usage(pixel_llm):
    ended = pixel_llm()
    assert (ended.status, ended.out) == (2, "")
    assert all(command in ended.err for command in COMMANDS)


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_is_a_result(pixel_llm, word):
    ended = pixel_llm(word)
    assert (ended.status, ended.err) == (0, "")
    assert all(command in ended.out for command in COMMANDS)


def test_help_of_a_command_by_either_order(pixel_llm):
    assert pixel_llm("help", "caption") == pixel_llm("caption", "--help")


def test_version(pixel_llm):
    assert pixel_llm("--version").out == f"pixel-llm {__version__}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian", "pictures"], "Did you mean 'train'?"),
        (["zzz"], "caption, checkpoints, demo, evaluate, export, inspect, report, split, train"),
        (["--verison"], "Did you mean '--version'?"),
        (["--epochs", "3"], "Options of a command follow it"),
    ],
)
def test_an_unknown_first_word_is_answered_with_the_nearest(pixel_llm, words, hint):
    ended = pixel_llm(words)
    assert (ended.status, ended.out) == (2, "")
    assert repr(words[0]) in ended.err
    assert hint in ended.err


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_wrong_usage(pixel_llm, command):
    ended = pixel_llm(command, "--nonsense")
    assert (ended.status, ended.out) == (2, "")
    assert "--nonsense" in ended.err or "Missing" in ended.err


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(pixel_llm, failing_with, monkeypatch):
    monkeypatch.delenv("PIXEL_LLM_DEBUG", raising=False)
    failing_with(ZeroDivisionError("first line\nsecond line"))
    ended = pixel_llm("caption", "run", "picture.png")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "pixel-llm: unexpected ZeroDivisionError: first line",
        "This may be a mistake in pixel-llm: PIXEL_LLM_DEBUG=1 shows where it happened.",
    ]


def test_the_debug_variable_lets_an_unexpected_error_through(failing_with, monkeypatch):
    monkeypatch.setenv("PIXEL_LLM_DEBUG", "1")
    failing_with(ZeroDivisionError("the place"))
    with pytest.raises(ZeroDivisionError, match="the place"):
        main(["caption", "run", "picture.png"])


def test_a_full_disk_is_not_called_a_mistake_of_the_program(pixel_llm, failing_with):
    failing_with(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/options.toml"))
    ended = pixel_llm("caption", "run", "picture.png")
    assert ended.status == 1
    assert "No space left on device: 'run/options.toml'" in ended.err
    assert "mistake" not in ended.err


def test_memory_that_runs_out_names_what_to_lower(pixel_llm, failing_with):
    failing_with(MemoryError())
    ended = pixel_llm("caption", "run", "picture.png")
    assert ended.status == 1
    assert "--batch-size" in ended.err


def test_ctrl_c_outside_training_has_its_status(pixel_llm, failing_with):
    failing_with(KeyboardInterrupt())
    ended = pixel_llm("caption", "run", "picture.png")
    assert (ended.status, ended.err) == (130, "pixel-llm: stopped by Ctrl-C.\n")


def test_an_error_from_a_loaders_worker_is_told_without_torchs_wrapping(pixel_llm, failing_with):
    # The text that torch's ExceptionWrapper makes; the real thing is in test_train.py, marked slow.
    failing_with(
        DatasetError(
            "Caught DatasetError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            '  File "x.py", line 1, in load\nOSError: image file is truncated\n\n'
            "The above exception was the direct cause of the following exception:\n\n"
            "Traceback (most recent call last):\n"
            '  File "y.py", line 2, in open_image\n'
            "systems.pixel_llm.errors.DatasetError: cat.png cannot be decoded.\nReplace it.\n"
        )
    )
    ended = pixel_llm("caption", "run", "picture.png")
    assert (ended.status, ended.err) == (1, "pixel-llm: cat.png cannot be decoded.\nReplace it.\n")


def test_a_second_command_in_one_process_tells_each_line_once(pixel_llm, pictures):
    handlers = list(logging.getLogger("systems.pixel_llm").handlers)
    for _ in range(2):
        ended = pixel_llm("train", pictures, "--init-from", "nowhere")
        assert ended.err.count("pictures read as: text") == 1
    assert logging.getLogger("systems.pixel_llm").handlers == handlers


def test_a_reader_that_has_gone_ends_the_output_quietly(repository_root):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "systems.pixel_llm", "train", "--help"],
            cwd=repository_root, stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert ended.stderr == ""
    assert ended.returncode == 128 + 13


def test_text_that_the_terminal_has_no_bytes_for_is_escaped(repository_root):
    ended = subprocess.run(
        [sys.executable, "-m", "systems.pixel_llm", "grün"],
        cwd=repository_root, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert rb"'gr\xfcn'" in ended.stderr


def test_a_wrong_option_is_told_without_loading_torch(repository_root):
    script = (
        "import json, sys\n"
        "from systems.pixel_llm.cli.main import main\n"
        "statuses = []\n"
        "for words in (['train', 'x', '--epochz', '3'], ['train', 'x', '--epochs=0', '--preset=tiny'], ['zzz']):\n"
        "    try: statuses.append(main(words))\n"
        "    except SystemExit as ended: statuses.append(ended.code)\n"
        "print(json.dumps([statuses, 'torch' in sys.modules]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=repository_root, capture_output=True, text=True, check=True
    )
    assert json.loads(ended.stdout) == [[2, 2, 2], False]


def test_every_command_has_its_module_and_its_options():
    assert main_module.COMMANDS.keys() == {
        "inspect",
        "split",
        "train",
        "caption",
        "evaluate",
        "report",
        "checkpoints",
        "export",
        "demo",
    }
