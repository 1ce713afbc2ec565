"""`python -m benchmarks [NAME...]`: run the named benchmarks, or all, and print their figures."""

import argparse
import importlib
import platform

import torch

BENCHMARKS = ("train_step", "encode_once", "startup")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all if left out")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; each measures every side once (default 7)")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {where}")
    for name in arguments.names or BENCHMARKS:
        print(f"\n== {name}")
        importlib.import_module(f"benchmarks.{name}").run(rounds=arguments.rounds)


if __name__ == "__main__":
    main()
