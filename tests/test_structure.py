"""The layout that DESIGN promises: one direction of imports, sizes, light programs."""

import ast
import graphlib
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent
PACKAGE = REPOSITORY / "wsvad_jax"
PROGRAMS = sorted(
    path.stem for path in PACKAGE.glob("*.py") if "cli.run(main)" in path.read_text()
)
# What a layer may import lies in its own layer or in those before it.
FLOOR = {"errors", "files", "progress"}
PARTS = {
    "losses",
    "detection_map",
    "models.convolution",
    "models.dense",
    "models.layers",
    "models.selection",
}
HEAVY = {
    "av",
    "flax",
    "huggingface_hub",
    "jax",
    "matplotlib",
    "ml_collections",
    "optax",
    "orbax",
    "sklearn",
    "tensorboardX",
    "tensorflow_datasets",
    "torch",
    "transformers",
}


def module_name(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


TREES = {module_name(p): ast.parse(p.read_text()) for p in PACKAGE.rglob("*.py")}


def layer(module: str) -> int:
    if module in FLOOR:
        return 0
    if module in PARTS or module.startswith("clip."):
        return 1
    return 3 if module in PROGRAMS else 2


def statements(tree: ast.AST, top_level: bool = False):
    """Import statements that are executed, those inside functions included."""
    for node in ast.iter_child_nodes(tree):
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        function = isinstance(node, ast.FunctionDef)
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not typing and not (top_level and function):
            yield from statements(node, top_level)


def names(tree: ast.AST, top_level: bool = False):
    """Dotted names that a module imports; of `from a import b`, a.b."""
    for node in statements(tree, top_level):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(module: str) -> set[str]:
    """Modules of this package that a module imports."""
    found = set()
    for name in names(TREES[module]):
        parts = name.split(".")[1:] if name.startswith("wsvad_jax.") else []
        for known in (".".join(parts), ".".join(parts[:-1])):
            if known in TREES:
                found.add(known)
                break
            if f"{known}.__init__" in TREES:
                found.add(f"{known}.__init__")
                break
    return found


IMPORTS = {module: own(module) for module in TREES}


def test_imports_point_one_way():
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if layer(other) > layer(module)
    ]
    assert not wrong
    list(graphlib.TopologicalSorter(IMPORTS).static_order())  # raises at a cycle


def reachable(module: str) -> set[str]:
    found, left = set(), [module]
    while left:
        for other in IMPORTS[left.pop()] - found:
            found.add(other)
            left.append(other)
    return found


def test_models_and_data_do_not_know_each_other():
    for module in TREES:
        if module.startswith("models."):
            assert not [m for m in reachable(module) if m.startswith("data.")], module
        if module.startswith("data."):
            assert not [m for m in reachable(module) if m.startswith("models.")], module


@pytest.mark.parametrize("module", ["metrics", "detection_map", "bootstrap"])
def test_metrics_need_numpy_alone(module):
    assert reachable(module) <= {"errors", "metrics", "detection_map"}
    foreign = {name.split(".")[0] for name in names(TREES[module])}
    foreign -= set(sys.stdlib_module_names) | {"wsvad_jax"}
    assert foreign <= {"numpy", "jaxtyping", "sklearn"}
    assert "sklearn" not in {n.split(".")[0] for n in names(TREES[module], True)}


def test_recipes_import_configdict_only():
    for path in (REPOSITORY / "configs").glob("*.py"):
        foreign = {n.split(".")[0] for n in names(ast.parse(path.read_text()))}
        assert foreign == {"ml_collections"}, path


def lines_of_code(function: ast.FunctionDef, lines: Sequence[str]) -> int:
    """Lines without the docstring, comments and blank lines."""
    first = function.body[0]
    end = function.end_lineno
    assert first.end_lineno is not None and end is not None
    documented = ast.get_docstring(function) is not None
    docstring = range(first.lineno, first.end_lineno + 1) if documented else ()
    numbers = set(range(function.lineno, end + 1)) - set(docstring)
    texts = (lines[number - 1].strip() for number in numbers)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def test_pauses_and_comments_cost_nothing():
    text = '''
def f(x):
    """Doc,

    of three lines."""
    # Why.
    y = x  # a comment beside code

    return y
'''
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert lines_of_code(function, text.splitlines()) == 3


def test_files_and_functions_are_short():
    long = []
    for folder in ("wsvad_jax", "tests", "configs", "docs", "launch"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            text = path.read_text()
            lines = text.splitlines()
            # A paper is read from top to bottom in one file.
            limit = 500 if path.parent == PACKAGE / "models" else 400
            if len(lines) > limit:
                long.append(f"{path.name}: {len(lines)} lines")
            for node in ast.walk(ast.parse(text)):
                if not isinstance(node, ast.FunctionDef):
                    continue
                if (code := lines_of_code(node, lines)) > 50:
                    long.append(f"{path.name}, {node.name}: {code} lines")
    assert not long


def test_every_program_of_the_design_is_there():
    planned = {"train", "evaluate", "extract", "prepare", "convert", "report"}
    assert planned <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_quick_and_has_an_example(program):
    command = [sys.executable, "-X", "importtime", "-m", f"wsvad_jax.{program}"]
    run = subprocess.run(
        [*command, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    usage, _, text = run.stdout.partition("\n\n")
    assert usage.startswith(f"usage: python -m wsvad_jax.{program}")
    assert f"python -m wsvad_jax.{program} " in text
    imported = {line.split("|")[-1].strip() for line in run.stderr.splitlines()}
    assert not {name.split(".")[0] for name in imported} & HEAVY
