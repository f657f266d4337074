"""The layout that DESIGN promises: one direction of imports, sizes, light programs."""

import ast
import functools
import graphlib
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent
PACKAGE = REPOSITORY / "wsvad_jax"
# Programs, and what names the package: nothing else is at its root.
PROGRAMS = (
    "benchmark",
    "calibrate",
    "convert",
    "detect",
    "evaluate",
    "export",
    "extract",
    "prepare",
    "pretrain",
    "push",
    "report",
    "search",
    "train",
)
NAMES = ("__init__", "__main__")
# Each file of a paper defines these.
BY_CONTRACT = ("Model", "Outputs")
# A sub-package imports from itself and from those before it.
ORDER = (
    "utils",
    "parallel",
    "clip",
    "metrics",
    "data",
    "models",
    "extraction",
    "datasets",
    "pretraining",
    "experiment",
    "weights",
    "results",
    "evaluation",
    "sharing",
    "training",
    "alarms",
    "detection",
    "retrieval",
    "audit",
    "benchmarks",
)
HEAVY = {
    "asyncio",
    "av",
    "filelock",
    "flax",
    "huggingface_hub",
    "jax",
    "jaxtyping",
    "matplotlib",
    "ml_collections",
    "numpy",
    "optax",
    "orbax",
    "pydantic",
    "scipy",
    "sklearn",
    "sqlite3",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
    "transformers",
}


def module_name(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


PATHS = {module_name(path): path for path in PACKAGE.rglob("*.py")}


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text())


def rank(module: str) -> int:
    """Place of a module's sub-package in ORDER; programs come last."""
    package, dot, _ = module.partition(".")
    return ORDER.index(package) if dot else len(ORDER)


def statements(parent: ast.AST, top_level: bool = False):
    """Import statements: those inside functions and for type checkers, too.

    With `top_level`, only those that are executed when the module is imported.
    """
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.expr):
            continue  # which holds no statements
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        function = isinstance(node, ast.FunctionDef)
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (top_level and (function or typing)):
            yield from statements(node, top_level)


def names(parent: ast.AST, top_level: bool = False):
    """Dotted names that a module imports; of `from a import b`, a.b."""
    for node in statements(parent, top_level):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(module: str) -> set[str]:
    """Modules of this package that a module imports."""
    found = set()
    for name in names(tree(module)):
        parts = name.split(".")[1:] if name.startswith("wsvad_jax.") else []
        for known in (".".join(parts), ".".join(parts[:-1])):
            if known in PATHS:
                found.add(known)
                break
            if f"{known}.__init__" in PATHS:
                found.add(f"{known}.__init__")
                break
    return found


@functools.cache
def imports() -> dict[str, set[str]]:
    """For each module, the modules of this package that it imports."""
    return {module: own(module) for module in PATHS}


def test_imports_follow_the_order_of_the_sub_packages():
    wrong = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if module not in NAMES and rank(other) > rank(module)
    ]
    assert not wrong


def test_no_circle_of_imports():
    # Names of the package's root are lazy, so they close no circle.
    inner = {
        m: others - set(NAMES) for m, others in imports().items() if m not in NAMES
    }
    list(graphlib.TopologicalSorter(inner).static_order())  # raises at a circle


def test_only_programs_lie_at_the_root():
    found = {path.stem for path in PACKAGE.glob("*.py")}
    assert found == {*PROGRAMS, *NAMES}
    folders = {
        path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()
    }
    assert folders == set(ORDER)


def test_no_two_classes_of_one_name():
    places: dict[str, list[str]] = {}
    for module in PATHS:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ClassDef) and node.name not in BY_CONTRACT:
                places.setdefault(node.name, []).append(module)
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_no_two_test_files_of_one_name():
    # pytest imports them by that name alone, and refuses the second one.
    names = [path.name for path in (REPOSITORY / "tests").rglob("*.py")]
    assert not {n for n in names if names.count(n) > 1 and n != "conftest.py"}


def reachable(module: str) -> set[str]:
    found, left = set(), [module]
    while left:
        for other in imports()[left.pop()] - found:
            found.add(other)
            left.append(other)
    return found


def test_models_and_data_do_not_know_each_other():
    for module in PATHS:
        if module.startswith("models."):
            assert not [m for m in reachable(module) if m.startswith("data.")], module
        if module.startswith("data."):
            assert not [m for m in reachable(module) if m.startswith("models.")], module


METRICS = sorted(m for m in PATHS if m.startswith("metrics."))


@pytest.mark.parametrize("module", METRICS)
def test_metrics_need_numpy_alone(module):
    assert reachable(module) <= {"utils.errors", *METRICS}
    foreign = {name.split(".")[0] for name in names(tree(module))}
    foreign -= set(sys.stdlib_module_names) | {"wsvad_jax"}
    assert foreign <= {"numpy", "jaxtyping", "scipy", "sklearn"}
    at_once = {n.split(".")[0] for n in names(tree(module), True)}
    assert not at_once & {"scipy", "sklearn"}


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
