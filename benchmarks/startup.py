"""How long a person waits before anything happens: `pixel-llm --help`, and the imports of a training script.

Whole processes, interpreter included. The imports are compared with `import torch, torchvision`, which any such script
pays.
"""

import statistics
import subprocess
import sys

from benchmarks.paired import paired_seconds, ratio_of_medians

COMMANDS = {
    "--help": ["-m", "systems.pixel_llm", "--help"],
    "train --help": ["-m", "systems.pixel_llm", "train", "--help"],
    "import torch, torchvision": ["-c", "import torch, torchvision"],
    "our training names": [
        "-c",
        "from systems.pixel_llm.training import Trainer, ImageCaptionDataset, CheckpointManager",
    ],
}


def run(*, rounds: int) -> None:
    """Print the median seconds of each, and the ratio of the imports."""
    sides = {
        name: lambda command=command: subprocess.run([sys.executable, *command], check=True, capture_output=True)
        for name, command in COMMANDS.items()
    }
    seconds = paired_seconds(sides, rounds=rounds, warmups=1)
    for name, figures in seconds.items():
        print(f"  {name:<26} {statistics.median(figures):.2f} s, all rounds {[round(each, 2) for each in figures]}")
    ratio = ratio_of_medians(seconds["our training names"], seconds["import torch, torchvision"])
    print(f"  our imports take {ratio:.2f} x of torch and torchvision alone (to stay under: 1.15)")
