"""Whoever types a `make` line of the documents or of CI finds the target it names."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)


def targets() -> set[str]:
    found = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert found
    return found


def targets_named_in(commands: str) -> list[str]:
    """The targets of each line that begins with make: `make -j2 lint types DEMO_OUT=x  # why` names lint and types."""
    named = []
    for line in commands.splitlines():
        command, *words = line.partition("#")[0].replace("&&", " ").split() or [""]
        if command == "make":
            named += [word.strip("'\"") for word in words if not word.startswith("-") and "=" not in word]
    return named


def files_that_name_targets() -> list[Path]:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
    documents += sorted((ROOT / "systems" / "pixel_llm").rglob("*.md"))
    return [document for document in documents if document.is_file()]


@pytest.mark.parametrize("document", files_that_name_targets(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_name_real_targets(document):
    text = document.read_text(encoding="utf-8")
    named = [name for match in CODE.finditer(text) for name in targets_named_in(match[1] or match[2])]
    assert set(named) <= targets()


def test_contributing_names_the_targets_of_daily_work():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = [name for match in CODE.finditer(text) for name in targets_named_in(match[1] or match[2])]
    assert {"setup", "test", "test-slow", "lint", "types", "format"} <= set(named)


def test_ci_calls_the_targets_that_people_call():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    called = re.search(r"^for target in (.+); do$", script, re.MULTILINE)
    assert called is not None
    assert set(called[1].split()) == {"setup", "lint", "types", "test"} <= targets()
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0


def test_make_alone_lists_every_target_with_its_help():
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = dict(re.findall(r"^make ([a-z-]+) +(\S.*)$", listed, re.MULTILINE))
    assert set(lines) == targets()


def test_the_reader_of_make_lines_itself():
    assert targets_named_in("make -j2 lint types DEMO_OUT=x  # make peace\ncmake here\n\nmake") == ["lint", "types"]
