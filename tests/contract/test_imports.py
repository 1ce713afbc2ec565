"""The public names are where the guide says, and asking for little loads little.

What loads torch is asked in processes of its own, because this one may have it already.
"""

import importlib
import json
import subprocess
import sys

import pytest

PUBLIC_NAMES = {
    "systems.pixel_llm.training": {
        "CaptionLoss",
        "CheckpointManager",
        "ImageCaptionDataset",
        "MetricsTracker",
        "Trainer",
        "TrainingOptions",
    },
    "systems.pixel_llm.models": {"create_pixel_llm", "PixelLLM", "PixelLLMConfig"},
    "systems.pixel_llm.data": {"ImageCaptionDataset", "ShapesDataset"},
    "systems.pixel_llm.inference": {"Captioner"},
}
"""What each package offers at least; it may offer more."""

HEAVY = ["torch", "torchvision", "tokenizers", "matplotlib", "PIL", "numpy"]


def run_python(script, *arguments, cwd):
    """Run `script`; its standard output's last line is JSON."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout, json.loads(ended.stdout.splitlines()[-1])


def test_importing_the_packages_loads_nothing_heavy(repository_root):
    script = (
        "import importlib, json, sys\n"
        "heavy, packages = json.loads(sys.argv[1]), json.loads(sys.argv[2])\n"
        "for package in ['systems.pixel_llm', *packages]: importlib.import_module(package)\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    _, loaded = run_python(script, json.dumps(HEAVY), json.dumps(list(PUBLIC_NAMES)), cwd=repository_root)
    assert loaded == []


@pytest.mark.parametrize(
    "arguments", ["--help", "--version", "train --help", "caption --help", "demo --help", "inspect --help"]
)
def test_help_and_version_load_no_torch(arguments, repository_root):
    script = (
        "import json, runpy, sys\n"
        "sys.argv = ['pixel-llm', *sys.argv[1:]]\n"
        "status = None\n"
        "try: runpy.run_module('systems.pixel_llm', run_name='__main__')\n"
        "except SystemExit as ended: status = ended.code or 0\n"
        "print(json.dumps([status, 'torch' in sys.modules]))\n"
    )
    output, (status, has_torch) = run_python(script, *arguments.split(), cwd=repository_root)
    assert status == 0
    assert not has_torch
    assert ("0." if arguments == "--version" else "usage: pixel-llm") in output


@pytest.mark.parametrize("package", PUBLIC_NAMES)
def test_public_names_are_there(package):
    module = importlib.import_module(package)
    assert PUBLIC_NAMES[package] <= set(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_the_guide_s_import_line():
    from systems.pixel_llm.data import ImageCaptionDataset as HomeOfTheDataset
    from systems.pixel_llm.training import CheckpointManager, ImageCaptionDataset, Trainer

    assert ImageCaptionDataset is HomeOfTheDataset
    assert Trainer.__module__ == "systems.pixel_llm.training.trainer"
    assert CheckpointManager.__module__ == "systems.pixel_llm.training.checkpoint"


def test_an_unknown_public_name_is_an_attribute_error():
    training = importlib.import_module("systems.pixel_llm.training")
    with pytest.raises(AttributeError, match=r"'systems\.pixel_llm\.training' has no attribute 'Treiner'"):
        _ = training.Treiner
