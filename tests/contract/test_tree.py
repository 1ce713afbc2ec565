"""The front page's tree names every file of the package, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files_in_the_tree() -> set[str]:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is where")[1].split("```")[1]
    found, folder = set(), ""
    for line in tree.splitlines():
        if match := re.match(r"( *)([\w./]+)", line):
            depth, name = len(match[1]) // 2, match[2]
            if name.endswith("/"):
                folder = name if depth <= 1 else folder + name
            elif name.endswith(".py"):
                found.add(name if depth < 2 else folder + name)
    return found


def test_the_tree_on_the_front_page_names_every_module():
    package = ROOT / "systems" / "pixel_llm"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert files_in_the_tree() == {name for name in modules if not name.endswith(("__init__.py", "__main__.py"))}
