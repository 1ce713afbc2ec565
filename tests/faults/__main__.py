"""Walk, and print how it went; the exit status is 1 where anything failed."""

import argparse
import logging
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from tests.faults.strace import why_not_traceable
from tests.faults.walk import EFFECTS, in_one_thread, walk


def main() -> int:
    """Run from the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="walk only every so many calls; default all")
    parser.add_argument("--effects", default=",".join(EFFECTS), help="default %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the walk; default %(default)s")
    parser.add_argument("--threads", action="store_true", help="write blocks in threads, as in earnest")
    parser.add_argument("--lasting", action="store_true", help="an error stays, for all later calls of its kind")
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary one")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what a save says of a fault in passing
    torch.set_num_threads(1)  # there must be no threads where a process is forked
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="faults-") as folder:
        if reason := why_not_traceable(Path(folder) / "strace.log"):
            print(f"Nothing was walked: {reason}.", file=sys.stderr)
            return 2
        started = time.monotonic()
        with nullcontext() if options.threads else in_one_thread():
            report = walk(
                Path(folder), effects=tuple(options.effects.split(",")), is_lasting=options.lasting,
                every=options.every, jobs=options.jobs, show=lambda line: print(line, flush=True),
            )  # fmt: skip
    print("\n".join(report.lines()))
    print(f"{time.monotonic() - started:.0f} seconds")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
