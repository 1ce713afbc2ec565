"""What pyproject.toml and constraints.txt promise each other."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    """Name -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_are_names_and_exact_versions_only(pinned):
    assert pinned
    for name, version in pinned.items():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name), name
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), f"{name}: {version} (no local part such as +cpu)"


def test_every_dependency_is_pinned_inside_its_range(project, pinned):
    versions = {normalised(name): version for name, version in pinned.items()}
    for requirement in sum(project["optional-dependencies"].values(), project["dependencies"]):
        if requirement.startswith(f"{project['name']}["):  # one extra that takes in others
            continue
        name, lowest = requirement.split(">=")
        version = versions[normalised(name)]
        assert numbers(version) >= numbers(lowest), f"{requirement}, but constraints.txt has {version}"


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_the_licence_is_the_one_declared(project):
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_has_a_place_for_the_next_change(project):
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
