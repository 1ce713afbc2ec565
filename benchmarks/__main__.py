"""`python -m benchmarks [NAME...]`: run the named benchmarks, or all, and print their figures."""

import argparse
import importlib
from pathlib import Path

import torch

from benchmarks.report import describe_machine, write_json

BENCHMARKS = (
    "train_step", "encode_once", "gradient_checkpointing", "generation", "startup", "loading", "cached_epoch",
    "data_wait", "manifest", "inspect", "caption_scores", "step_extras", "checkpoints",
)  # fmt: skip
SIZED = BENCHMARKS[5:]
"""Those that can be run with few pictures, to see whether they work."""


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all if left out")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; each measures every side once (default 7)")
    parser.add_argument("--small", action="store_true", help="few pictures: to see that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures too, with machine and versions")
    arguments = parser.parse_args()
    names = arguments.names or (SIZED if arguments.small else BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
        if arguments.small and name not in SIZED:
            parser.error(f"{name} has one size only; with --small there are {', '.join(SIZED)}")
    machine = describe_machine()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {machine['gpu'] or machine['processor']}")
    settings = {"rounds": arguments.rounds} | ({"small": True} if arguments.small else {})
    results = {}
    for name in names:
        print(f"\n== {name}", flush=True)
        results[name] = importlib.import_module(f"benchmarks.{name}").run(**settings)
        if arguments.json is not None:  # after each, so that an interruption loses one at most
            write_json(arguments.json, results, rounds=arguments.rounds, small=arguments.small)


if __name__ == "__main__":
    main()
