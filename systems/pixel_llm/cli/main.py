"""`pixel-llm COMMAND ...`: finds the command, runs it, and turns every outcome into a message and an exit status.

The options are parsed before the command's own module is imported, so that `--help` and a typing error answer at once,
without torch. Results go to stdout, all else to stderr. Exit status: 0 done, 1 a data or run error, 2 wrong usage,
128 + n stopped by signal n.
"""

import errno
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from systems.pixel_llm import __version__
from systems.pixel_llm.cli.signals import SignalGuard, ending_on_signals, signal_told
from systems.pixel_llm.errors import ConfigError, PixelLLMError, nearest_name_hint

__all__ = ["entry_point", "main"]

COMMANDS = {
    "inspect": "look at a folder of captioned pictures before training, and say what is wrong with it",
    "split": "divide a folder for training, validation and test, pictures that look the same on one side",
    "train": "learn to caption from a folder of captioned pictures",
    "caption": "caption pictures with a trained model",
    "evaluate": "score a trained model on captioned pictures, beside baselines and people",
    "report": "make the page of a run: curves, captions, what words looked at, scores, settings",
    "checkpoints": "list what a run has saved, verify every byte of it, remove what need not be kept",
    "export": "write a trained model as a folder to give away, with a model card",
    "demo": "learn to caption drawn shapes, in minutes, with nothing but this package",
}

OPTIONS = ("--help", "--version")

DEBUG_VARIABLE = "PIXEL_LLM_DEBUG"


def entry_point() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A caption or a file's name may hold what the terminal's encoding has no byte for: show its number.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status.

    Raises:
        SystemExit: an option of a command is wrong (status 2), or its `--help` was printed (status 0).
    """
    name, *rest = arguments or ["--help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("-h", "--help", "help"):
        print(_usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if name == "--version":
        print(f"pixel-llm {__version__}")
        return 0
    if name not in COMMANDS:
        _complain(_unknown(name))
        return 2
    with _lines_on_stderr(), ending_on_signals() as guard:
        return _run(name, rest, guard)


def _run(name: str, arguments: Sequence[str], guard: SignalGuard) -> int:
    options = None
    try:
        options = getattr(importlib.import_module("systems.pixel_llm.cli.options"), f"parse_{name}")(arguments)
        status: int = importlib.import_module(f"systems.pixel_llm.cli.{name}").run(options)
        sys.stdout.flush()
    except ConfigError as error:
        _complain(_own_message(error) if options is None else _in_flags(_own_message(error), type(options)))
        return 2
    except PixelLLMError as error:
        _complain(_own_message(error))
        return 1
    except KeyboardInterrupt:
        return _stopped(guard)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`). Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if guard.has_raised:  # where an import is broken off, for one, there comes out what became of it
            return _stopped(guard)
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _complain(_unexpected(error))
        return 1
    return status


def _stopped(guard: SignalGuard) -> int:
    number = guard.received[0] if guard.received else signal.SIGINT
    _complain(f"stopped by {signal_told(number)}.")
    return 128 + number


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pixel-llm COMMAND [OPTIONS]",
            "",
            "Turn a folder of captioned pictures into a model that captions new ones.",
            "",
            "commands:",
            *lines,
            "",
            "  pixel-llm COMMAND --help  all options of a command",
            "  pixel-llm --version",
        ]
    )


def _unknown(name: str) -> str:
    """What to say of a first word that is neither a command nor an option."""
    if name.startswith("-"):
        hint = nearest_name_hint(name, OPTIONS)
        return (
            f"unknown option {name!r} before a command. {hint}\nOptions of a command follow it: pixel-llm train --help"
        )
    return f"unknown command {name!r}. {nearest_name_hint(name, COMMANDS)}\nAll commands: pixel-llm --help"


def _own_message(error: PixelLLMError) -> str:
    """The error's message alone: one that comes out of a loader's worker is wrapped in a whole traceback by torch."""
    text = str(error)
    if text.startswith("Caught ") and "Original Traceback" in text:
        kind = type(error)
        text = text.rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")[2]
    return text.strip()


def _in_flags(message: str, options: type) -> str:
    """What the library says of settings, with the flags of the command in their place."""
    flags = importlib.import_module("systems.pixel_llm.cli.flags")
    told: str = flags.in_flags(message, flags.setting_types(options))
    return told


def _unexpected(error: Exception) -> str:
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):  # torch is not imported here
        return f"memory ran out ({_first_line(error)}). Try a smaller --batch-size, --image-size or --preset."
    if isinstance(error, OSError) and error.strerror:  # a full disk, a folder that may not be written to
        return f"{_first_line(error)}\n{DEBUG_VARIABLE}=1 shows where it happened."
    return (
        f"unexpected {type(error).__name__}: {_first_line(error)}\n"
        f"This may be a mistake in pixel-llm: {DEBUG_VARIABLE}=1 shows where it happened."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _complain(message: str) -> None:
    print(f"pixel-llm: {message}", file=sys.stderr)


@contextmanager
def _lines_on_stderr() -> Iterator[None]:
    """The package's log records as lines on stderr, for as long as a command runs."""
    logger, handler = logging.getLogger("systems.pixel_llm"), _StderrLines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _StderrLines(logging.Handler):
    """Log records as plain lines on stderr, above the progress bar where one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        # `rich` replaces sys.stderr while a bar is live, so the name is looked up at each line.
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        try:
            print(f"{prefix}{record.getMessage()}", file=sys.stderr)
        except OSError as error:
            # The terminal was closed at this very line. A signal comes with it, on which the run saves and ends.
            if error.errno != errno.EIO:
                raise
