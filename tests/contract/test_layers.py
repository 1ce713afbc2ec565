"""The house rules that reading the source can check: who imports whom, what loads without torch, what never appears.

Layers: a module imports from its own package and from lower layers only; packages of one layer from 2 up are siblings
that never import each other. Imports inside functions count; in an `__init__.py` those under TYPE_CHECKING do not.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "systems.pixel_llm"
FOLDER = Path(__file__).resolve().parents[2] / "systems" / "pixel_llm"

LAYERS = {
    **dict.fromkeys(["__init__", "errors", "seeding", "lazy", "settings"], 0),
    **dict.fromkeys(
        ["tokenizer", "preprocessing", "checkpoint_folder", "global_generators", "whole_folder", "free_space"], 1
    ),
    **dict.fromkeys(["block_digests", "folder_writer", "folder_snapshot", "tensor_file", "tensor_bytes"], 1),
    **dict.fromkeys(["checkpoint_lineage", "checkpoint_ranking", "checkpoint_retention"], 1),
    **dict.fromkeys(["plain_files", "verified_files", "folder_reader", "tensor_fit", "weights_file"], 1),
    **dict.fromkeys(["data", "models"], 2),
    **dict.fromkeys(["training", "inference"], 3),
    "evaluation": 4,
    **dict.fromkeys(["cli", "serve", "compositor", "examples"], 5),
    "__main__": 6,
}
FIRST_SIBLING_LAYER = 2

WITHOUT_TORCH = [
    *["__init__.py", "errors.py", "seeding.py", "lazy.py", "preprocessing.py", "checkpoint_folder.py", "tokenizer.py"],
    *["checkpoint_lineage.py", "checkpoint_ranking.py", "checkpoint_retention.py"],
    *[
        "settings.py",
        "whole_folder.py",
        "free_space.py",
        "block_digests.py",
        "folder_writer.py",
        "tensor_file.py",
        "folder_snapshot.py",
    ],
    *["plain_files.py", "verified_files.py", "folder_reader.py", "tensor_fit.py"],
    *["data/__init__.py", "data/options.py", "models/__init__.py", "models/config.py", "inference/__init__.py"],
    "models/generation_options.py",
    *["training/__init__.py", "training/options.py", "training/metrics_log.py"],
    *["training/durable.py", "training/optimizer_states.py", "training/own_run.py", "training/previous_runs.py"],
    *["training/schedule.py", "training/part_lists.py"],
    *[f"evaluation/{name}.py" for name in ("words", "ngrams", "bleu", "rouge", "cider", "diversity", "score")],
    *[f"evaluation/{name}.py" for name in ("result", "evaluation_files", "consensus", "human_line")],
    *[f"evaluation/{name}.py" for name in ("run_files", "run_record", "line_chart", "caption_comparison", "page")],
    *[f"evaluation/{name}.py" for name in ("bootstrap", "chrf", "meteor", "java_scores", "clip_score")],
    "evaluation/optional_scores.py",
    *[f"evaluation/{name}.py" for name in ("card_scores", "data_record", "markdown", "model_card", "run_facts")],
    *[f"cli/{name}.py" for name in ("main", "options", "caption_options", "evaluate_options", "report_options")],
    *[f"cli/{name}.py" for name in ("checkpoints", "checkpoints_options", "checkpoints_table")],
    *["cli/inspect.py", "cli/split.py", "data/inspection.py", "data/split.py"],
]
IMPORT_NAMES = {"pillow": "PIL", "tomli-w": "tomli_w"}
"""Distributions whose import name is another."""
EXTRAS = {
    "data/readers/parquet_table.py": "pyarrow",
    "data/turbo_jpeg.py": "simplejpeg",
    "evaluation/chrf.py": "sacrebleu",
    "evaluation/clip_score.py": "transformers",
    "evaluation/java_scores.py": "pycocoevalcap",
    "training/tensorboard_log.py": "tensorboard",
    "training/wandb_log.py": "wandb",
}
"""The one file that imports what an extra installs."""


@dataclass(frozen=True)
class Import:
    """One imported name, such as `systems.pixel_llm.data.images.open_image` or `torch`, and where it stands."""

    name: str
    line: int
    runs_on_import: bool


def imports_of(source: str, *, is_init: bool = False) -> list[Import]:
    """The absolute imports of `source`; those of an `__init__.py` without its TYPE_CHECKING blocks."""

    def visit(node: ast.AST, runs_on_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in [] if is_init else node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, runs_on_import)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, runs_on_import)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write the full name"
            for alias in node.names:
                yield Import(f"{node.module}.{alias.name}", node.lineno, runs_on_import)
        runs_on_import = runs_on_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, runs_on_import)

    return list(visit(ast.parse(source), True))


def part_of(name: str) -> str | None:
    """The part of the package that an imported name belongs to (`data`, `errors`, ...); None outside the package."""
    if name != PACKAGE and not name.startswith(PACKAGE + "."):
        return None
    first = name.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]
    return first if first in LAYERS else "__init__"


def may_import(importer: str, imported: str) -> bool:
    """Whether the part `importer` may import from the part `imported`."""
    high, low = LAYERS[importer], LAYERS[imported]
    return importer == imported or low < high or (low == high < FIRST_SIBLING_LAYER)


def modules() -> list[Path]:
    found = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.py"))
    assert Path("errors.py") in found, f"{FOLDER} does not hold the package"
    return found


def read_imports(module: Path) -> list[Import]:
    source = (FOLDER / module).read_text(encoding="utf-8")
    return imports_of(source, is_init=module.name == "__init__.py")


def top_part(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def test_every_part_has_a_layer():
    assert {top_part(module) for module in modules()} <= set(LAYERS)


def test_lower_layers_never_import_higher_ones():
    wrong = []
    for module in modules():
        for found in read_imports(module):
            imported = part_of(found.name)
            if imported is not None and not may_import(top_part(module), imported):
                wrong.append(f"{module}:{found.line} imports {found.name}")
    assert wrong == []


def test_layer_0_needs_the_standard_library_only():
    wrong = [
        f"{module}:{found.line} imports {found.name}"
        for module in modules()
        if LAYERS[top_part(module)] == 0
        for found in read_imports(module)
        if part_of(found.name) is None and found.name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert wrong == []


def test_only_declared_dependencies_are_imported(repository_root):
    project = tomllib.loads((repository_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.match(r"[\w.-]+", requirement)[0] for requirement in project["dependencies"]]
    declared = {IMPORT_NAMES.get(name, name) for name in names} | {"systems"} | sys.stdlib_module_names
    wrong = [
        f"{module}:{found.line} imports {found.name}"
        for module in modules()
        for found in read_imports(module)
        if found.name.partition(".")[0] not in declared | {EXTRAS.get(module.as_posix())}
    ]
    assert wrong == []


def test_what_an_extra_installs_is_declared_and_not_needed_to_import(repository_root):
    extras = tomllib.loads((repository_root / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    declared = {re.match(r"[\w.-]+", requirement)[0] for extra in extras.values() for requirement in extra}
    for module, name in EXTRAS.items():
        assert name in declared
        assert not any(found.name.startswith(name) and found.runs_on_import for found in read_imports(Path(module)))


def test_torch_free_modules_do_not_name_torch_at_module_level():
    wrong = [
        f"{module}:{found.line} imports {found.name}"
        for module in modules()
        if module.as_posix() in WITHOUT_TORCH
        for found in read_imports(module)
        if found.runs_on_import and found.name.partition(".")[0] in ("torch", "torchvision")
    ]
    assert wrong == []


def test_torch_free_modules_load_no_torch_through_others(repository_root):
    there = [module for module in modules() if module.as_posix() in WITHOUT_TORCH]
    names = [".".join([PACKAGE, *module.with_suffix("").parts]).removesuffix(".__init__") for module in there]
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'importing {name} loads torch')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *names], cwd=repository_root, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_nothing_is_pickled():
    pickling = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    wrong = []
    for module in modules():
        for found in read_imports(module):
            if found.name.partition(".")[0] in pickling or found.name in ("torch.load", "torch.save"):
                wrong.append(f"{module}:{found.line} imports {found.name}")
        for node in ast.walk(ast.parse((FOLDER / module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save"):
                wrong.append(f"{module}:{node.lineno} uses {ast.unparse(node)}")
    assert wrong == []


def test_only_the_command_line_and_the_examples_print():
    wrong = [
        f"{module}:{node.lineno}"
        for module in modules()
        if top_part(module) not in ("cli", "examples")
        for node in ast.walk(ast.parse((FOLDER / module).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


def test_no_module_is_a_drawer_for_odds_and_ends():
    assert [str(module) for module in modules() if module.stem in ("utils", "helpers", "common", "misc")] == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("training", "models", True),
        ("training", "errors", True),
        ("models", "models", True),
        ("tokenizer", "preprocessing", True),
        ("models", "data", False),
        ("data", "models", False),
        ("inference", "training", False),
        ("training", "inference", False),
        ("errors", "tokenizer", False),
        ("training", "cli", False),
        ("examples", "cli", False),
        ("__main__", "cli", True),
    ],
)
def test_the_rule_itself(importer, imported, allowed):
    assert may_import(importer, imported) is allowed


def test_the_reader_of_imports_itself():
    source = (
        "from typing import TYPE_CHECKING\n"
        "import torch.nn\n"
        "if TYPE_CHECKING:\n"
        "    from systems.pixel_llm.data import Sample\n"
        "def late():\n"
        "    from systems.pixel_llm import training\n"
    )
    everywhere = [
        Import("typing.TYPE_CHECKING", 1, True),
        Import("torch.nn", 2, True),
        Import("systems.pixel_llm.data.Sample", 4, False),
        Import("systems.pixel_llm.training", 6, False),
    ]
    assert imports_of(source) == everywhere
    assert imports_of(source, is_init=True) == [found for found in everywhere if found.line != 4]
    assert [part_of(found.name) for found in everywhere] == [None, None, "data", "training"]
    assert part_of("systems.pixel_llm.__version__") == part_of("systems.pixel_llm") == "__init__"
