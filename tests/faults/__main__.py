"""Put faults into saves, and print how it went; the exit status is 1 where anything failed, 2 where nothing can be."""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from tests.faults.power_cut import cut_power, why_not_mountable
from tests.faults.strace import why_not_traceable
from tests.faults.walk import EFFECTS, in_one_thread, walk


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary one")
    parser.add_argument("--cuts", type=int, help="no walk, but so many power cuts")
    parser.add_argument("--every", type=int, default=1, help="walk only every so many calls; default all")
    parser.add_argument("--effects", default=",".join(EFFECTS), help="of a fault; default %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the walk; default %(default)s")
    parser.add_argument("--threads", action="store_true", help="write blocks in threads, as in earnest")
    parser.add_argument("--lasting", action="store_true", help="an error stays, for all later calls of its kind")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # what a save says of a fault in passing
    torch.set_num_threads(1)  # there must be no threads where a process is forked
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="faults-") as name:
        folder, started = Path(name), time.monotonic()
        reason = why_not_traceable(folder / "strace.log") if options.cuts is None else why_not_mountable(folder)
        if reason is not None:
            print(f"Nothing was done: {reason}.", file=sys.stderr)
            return 2
        if options.cuts is not None:
            report = cut_power(folder, cuts=options.cuts, show=_show)
        else:
            with nullcontext() if options.threads else in_one_thread():
                report = walk(
                    folder, effects=tuple(options.effects.split(",")), is_lasting=options.lasting,
                    every=options.every, jobs=options.jobs, show=_show,
                )  # fmt: skip
    print("\n".join(report.lines()))
    print(f"{time.monotonic() - started:.0f} seconds")
    return 1 if report.failures else 0


def _show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
