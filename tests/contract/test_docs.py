"""Every Python block and every `pixel-llm` command of the documents runs as written, in the order of the document.

Each document gets a fresh folder that holds what a reader is told to have: `my_pictures/` (12 pictures, each with its
caption in a .txt file), `my_dataset/` (both .txt files and manifest.json), `train_data/` and `val_data/` (.txt files),
`photo.jpg`. Its Python blocks share one namespace, its commands run in the same folder.

HTML comments just above a block, unseen by the reader, change how it is tested:

    <!-- slow -->                  runs only in the document's slow test, which runs the quick blocks too
    <!-- not run: REASON -->       is only checked to be Python; the reason is shown among the skipped tests
    <!-- test: --max-steps 2 -->   these words are added to each `pixel-llm train` command of the block
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON, SHELL = "python", "bash"
OTHER_LANGUAGES = {"", "text", "json", "toml", "diff"}
"""Shown, not run. Any other word after the fence (sh, py, console) is refused, since it would go untested unseen."""

FENCE = re.compile(r"^( *)(`{3,})(\S*)")
COMMENT = re.compile(r"^ *<!-- (slow|not run|test)(?:: (.+))? -->$")


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    document: Path
    line: int
    """Where its code begins, counted from 1."""
    language: str
    code: str
    is_slow: bool = False
    not_run: str | None = None
    train_arguments: str = ""

    def __str__(self) -> str:
        return f"{name_of(self.document)}:{self.line}"


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix() if document.is_relative_to(ROOT) else document.name


def documents() -> list[Path]:
    package = ROOT / "systems" / "pixel_llm"
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", package / "README.md", *sorted(package.glob("docs/*.md"))]
    return [document for document in found if document.is_file()]


def read_blocks(document: Path) -> list[Block]:
    """The fenced blocks of `document`, each with what the comments right above it ask for."""
    blocks, marks = [], {}
    lines = iter(enumerate(document.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        if comment := COMMENT.match(line):
            marks[comment[1]] = comment[2]
        elif fence := FENCE.match(line):
            code = "\n".join(text.removeprefix(fence[1]) for text in until_fence_closes(lines, fence[2])) + "\n"
            blocks.append(
                Block(
                    document=document,
                    line=number + 1,
                    language=fence[3],
                    code=code,
                    is_slow="slow" in marks,
                    not_run=marks.get("not run"),
                    train_arguments=marks.get("test") or "",
                )
            )
            marks = {}
        elif line.strip():
            marks = {}
    return blocks


def until_fence_closes(lines: Iterator[tuple[int, str]], fence: str) -> Iterator[str]:
    for _, line in lines:
        if line.strip() == fence:
            return
        yield line
    raise AssertionError(f"a block that begins with {fence} is never closed")


def commands_of(block: Block) -> list[list[str]]:
    """The `pixel-llm` commands of a bash block as lists of words, without `pixel-llm` itself."""
    commands = []
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["pixel-llm"]:
            is_training = words[1:2] == ["train"]
            commands.append(words[1:] + (shlex.split(block.train_arguments) if is_training else []))
    return commands


def run_block(block: Block, *, namespace: dict, folder: Path) -> None:
    """Run `block` with `folder` as the current one; an error's traceback shows the document's own line."""
    if block.language == PYTHON:
        exec(compile("\n" * (block.line - 1) + block.code, str(block.document), "exec"), namespace)
    elif block.language == SHELL:
        for command in commands_of(block):
            run_command(command, block=block, folder=folder)


def run_command(command: list[str], *, block: Block, folder: Path) -> None:
    words = [match for word in command for match in expand(word, folder=folder)]
    ended = subprocess.run(
        [sys.executable, "-m", "systems.pixel_llm", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, (
        f"{block}: `pixel-llm {shlex.join(words)}` ended with status {ended.returncode}\n{ended.stdout}{ended.stderr}"
    )


def expand(word: str, *, folder: Path) -> list[str]:
    """What a shell makes of `photos/*.jpg`; a word without * stays."""
    matches = sorted(path.relative_to(folder).as_posix() for path in folder.glob(word)) if "*" in word else []
    return matches or [word]


@pytest.fixture
def reader_s_folder(in_tmp_path, tiny_picture_folder) -> Path:
    """The folder that the documents tell of, as the current one."""
    tiny_picture_folder("my_pictures", 12)
    tiny_picture_folder("my_dataset", 12, manifest=True)
    tiny_picture_folder("train_data", 12)
    tiny_picture_folder("val_data", 4)
    photos = tiny_picture_folder("photos", 1, size=(160, 120), text=False)
    (photos / "picture_00.jpg").rename(in_tmp_path / "photo.jpg")
    photos.rmdir()
    return in_tmp_path


def run_document(document: Path, *, folder: Path, slow: bool) -> None:
    namespace = {"__name__": "__main__"}
    for block in read_blocks(document):
        if block.not_run is None and (slow or not block.is_slow):
            run_block(block, namespace=namespace, folder=folder)


def slow_documents() -> list[Path]:
    return [document for document in documents() if any(block.is_slow for block in read_blocks(document))]


def blocks_left_out() -> list[Block]:
    return [block for document in documents() for block in read_blocks(document) if block.not_run is not None]


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_document_runs(document, reader_s_folder):
    run_document(document, folder=reader_s_folder, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("document", slow_documents(), ids=name_of)
def test_document_runs_with_its_slow_blocks(document, reader_s_folder):
    run_document(document, folder=reader_s_folder, slow=True)


@pytest.mark.parametrize("block", blocks_left_out(), ids=str)
def test_block_left_out_is_python_at_least(block):
    if block.language == PYTHON:
        compile(block.code, str(block), "exec")
    pytest.skip(f"{block} is not run: {block.not_run}")


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_blocks_say_their_language(document):
    unknown = [str(block) for block in read_blocks(document) if block.language not in {PYTHON, SHELL, *OTHER_LANGUAGES}]
    assert unknown == [], f"use one of {PYTHON}, {SHELL}, {', '.join(sorted(OTHER_LANGUAGES - {''}))}"


def test_the_readme_shows_python_and_commands():
    blocks = read_blocks(ROOT / "README.md")
    assert any(block.language == PYTHON for block in blocks)
    assert any(commands_of(block) for block in blocks if block.language == SHELL)


EXAMPLE = """\
# Title
```python
number = 1
```
<!-- test: --max-steps 2 -->
<!-- slow -->

```bash
make setup
pixel-llm train my_pictures \\
    --out runs/mine   # a comment
pixel-llm caption runs/mine photo.jpg
```
<!-- slow -->
Words between a comment and a block part them.

1. In a list:
   <!-- not run: needs a camera -->
   ```python
   if number:
       number += 1
   ```
"""


@pytest.fixture
def example(tmp_path) -> Path:
    document = tmp_path / "example.md"
    document.write_text(EXAMPLE, encoding="utf-8")
    return document


def test_the_reader_of_blocks_itself(example):
    first, second, third = read_blocks(example)
    assert (first.language, first.code, first.line, first.is_slow) == ("python", "number = 1\n", 3, False)
    assert second.is_slow
    assert commands_of(second) == [
        ["train", "my_pictures", "--out", "runs/mine", "--max-steps", "2"],
        ["caption", "runs/mine", "photo.jpg"],
    ]
    assert (third.code, third.is_slow, third.not_run) == ("if number:\n    number += 1\n", False, "needs a camera")


def test_blocks_share_a_namespace_and_fail_at_the_document_s_line(example, reader_s_folder):
    example.write_text("```python\nnumber = 1\n```\nText.\n```python\nnumber += 1\nnumber / 0\n```\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as raised:
        run_document(example, folder=reader_s_folder, slow=False)
    assert (raised.traceback[-1].path.name, raised.traceback[-1].lineno + 1) == ("example.md", 7)


def test_a_failing_command_fails_the_document(example, reader_s_folder):
    example.write_text("```bash\npixel-llm no-such-command *.jpg\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"example\.md:2: `pixel-llm no-such-command photo\.jpg` ended with"):
        run_document(example, folder=reader_s_folder, slow=False)
