"""`pixel-llm report`: the page that `train` leaves, made again."""

import getpass
import json
import re
import socket
from pathlib import Path

import torch

from systems.pixel_llm.cli import report
from systems.pixel_llm.cli.environment import describe_environment
from systems.pixel_llm.cli.report import default_settings
from systems.pixel_llm.errors import PixelLLMError
from systems.pixel_llm.models.config import PRESETS


def without_date(page: str) -> str:
    assert len(re.findall(r"Made [\d-]+ [\d:]+ UTC", page)) == 1
    return re.sub(r"Made [\d-]+ [\d:]+ UTC", "", page)


def test_the_page_of_a_run_is_made_again(pixel_llm, trained_run):
    page = trained_run / "report.html"
    made = pixel_llm("report", trained_run)
    assert (made.status, made.out) == (0, "report: run/report.html\n")
    first = page.read_text(encoding="utf-8")
    for expected in ("square on the", "Where it looked", "image_size", "instead of", "pixel-llm caption run PICTURE"):
        assert expected in first
    page.unlink()
    ended = pixel_llm("report", trained_run, "--out", "other.html")
    assert (ended.status, ended.out) == (0, "report: other.html\n")
    assert not page.exists()
    assert without_date(Path("other.html").read_text(encoding="utf-8")) == without_date(first)


def test_a_folder_that_is_no_run_is_refused(pixel_llm, pictures):
    ended = pixel_llm("report", pictures)
    assert (ended.status, ended.out) == (1, "")
    assert "pictures holds neither options.toml nor metrics.jsonl" in ended.err


def test_a_page_that_cannot_be_written_is_told(pixel_llm, trained_run):
    ended = pixel_llm("report", trained_run, "--out", "absent/page.html")
    assert (ended.status, ended.out) == (1, "")
    assert "absent/page.html cannot be written: No such file or directory." in ended.err


def test_no_run_is_lost_to_its_page(pixel_llm, pictures, trained_run, monkeypatch):
    def fail(*_, **__):
        raise PixelLLMError("a picture of why.")

    monkeypatch.setattr(report, "write_report", fail)
    ended = pixel_llm("train", pictures, "--out", trained_run, "--resume", "--max-steps", 4)
    assert ended.status == 0
    assert "report:" not in ended.out
    assert "training curve:" in ended.out
    assert "warning: There is no report: a picture of why. To make it: pixel-llm report run" in ended.err


def test_the_environment_names_versions_and_neither_host_nor_user_nor_path(trained_run):
    facts = json.loads((trained_run / "environment.json").read_text(encoding="utf-8"))
    assert facts == describe_environment(torch.device("cpu"))
    assert {"pixel_llm", "python", "torch", "numpy", "pillow", "processor", "cores", "device"} <= facts.keys()
    told = json.dumps(facts)
    for name in (socket.gethostname(), getpass.getuser(), str(Path.home()), str(Path.cwd())):
        assert f'"{name}"' not in told
        assert len(name) < 6 or name not in told


def test_defaults_are_those_of_the_preset():
    for preset, sizes in PRESETS.items():
        defaults = default_settings(preset)
        assert {name: defaults[name] for name in sizes} == sizes
    assert default_settings("tiny")["learning_rate"] != default_settings("base")["learning_rate"]
    assert "learning_rate" in default_settings("a preset of tomorrow")
