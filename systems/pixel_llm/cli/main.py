"""`pixel-llm COMMAND ...`: finds the command, runs it, and turns every outcome into a message and an exit status.

The options are parsed before the command's own module is imported, so that `--help` and a typing error answer at once,
without torch. Results go to stdout, all else to stderr. Exit status: 0 done, 1 a data or run error, 2 wrong usage,
128 + n stopped by signal n.
"""

import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence

from systems.pixel_llm import __version__
from systems.pixel_llm.errors import ConfigError, PixelLLMError, nearest_name_hint

__all__ = ["entry_point", "main"]

COMMANDS = {
    "train": "learn to caption from a folder of captioned pictures",
    "caption": "caption pictures with a trained model",
    "demo": "learn to caption drawn shapes, in minutes, with nothing but this package",
}

DEBUG_VARIABLE = "PIXEL_LLM_DEBUG"


def entry_point() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else 2
    if name == "--version":
        print(f"pixel-llm {__version__}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        _complain(f"unknown {kind} {name!r}. {nearest_name_hint(name, COMMANDS)}\nAll commands: pixel-llm --help")
        return 2
    return _run(name, rest)


def _run(name: str, arguments: Sequence[str]) -> int:
    logging.getLogger("systems.pixel_llm").addHandler(_StderrLines())
    logging.getLogger("systems.pixel_llm").setLevel(logging.INFO)
    try:
        options = getattr(importlib.import_module("systems.pixel_llm.cli.options"), f"parse_{name}")(arguments)
        status: int = importlib.import_module(f"systems.pixel_llm.cli.{name}").run(options)
        sys.stdout.flush()
    except PixelLLMError as error:
        _complain(str(error))
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        _complain("stopped by Ctrl-C.")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`). Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _complain(
            f"unexpected {type(error).__name__}: {error}\n"
            f"This may be a mistake in pixel-llm: {DEBUG_VARIABLE}=1 shows where it happened."
        )
        return 1
    return status


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


def _complain(message: str) -> None:
    print(f"pixel-llm: {message}", file=sys.stderr)


class _StderrLines(logging.Handler):
    """Log records as plain lines on stderr, above the progress bar where one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        # `rich` replaces sys.stderr while a bar is live, so the name is looked up at each line.
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        print(f"{prefix}{record.getMessage()}", file=sys.stderr)
