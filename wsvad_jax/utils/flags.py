"""Flags of the programs: which were given, which fit together, which was meant.

Also how a command is written so that it runs as printed, from any folder.
"""

import argparse
import difflib
import pathlib
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import flatten

# Flags whose values are paths, though neither type nor metavar says so.
PATHS = ("workdir", "data_dir")
# From a frame every quarter of an hour to high-speed cameras.
FPS = 0.001, 100_000

# What a part of the package needs besides, by its extra; pyproject.toml has versions.
# By name, since a hint is also read where this package was not installed from an index.
EXTRAS = {
    "beam": ("apache-beam",),
    "mqtt": ("paho-mqtt",),
    "onnx": ("jax2onnx", "onnxruntime"),
    "torch": ("torch",),
    "umap": ("umap-learn",),
    "aot": ("libtpu",),
}
# Words that other programs use for a key of ours.
SYNONYMS = {
    "learning_rate": "lr",
    "bs": "batch_size",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "max_steps": "steps",
}
# What the value of a recipe's key must be, by its type.
KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the flag that may be meant.

    Flags are not abbreviated: `--seed 3` would be read as `--seeds 3`. Hyphens and
    underscores within a flag are the same: `--data-dir` is `--data_dir`.
    """

    def __init__(self, *args: Any, meant: Mapping[str, str] | None = None, **kw: Any):
        """`meant`: flags of ours by the words that others use for them."""
        super().__init__(*args, **{"allow_abbrev": False, **kw})
        self.meant, self.seen = dict(meant or {}), ()

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        words = sys.argv[1:] if args is None else [str(word) for word in args]
        own = {_underscored(option): option for option in options(self)}
        self.seen = tuple(_as_defined(word, own) for word in words)
        self._refuse_empty_paths()
        return super().parse_known_args(list(self.seen), namespace)

    def _refuse_empty_paths(self) -> None:
        """Raises InputError where a flag for a file or folder is empty.

        An empty path would be the current folder.
        """
        for i, word in enumerate(self.seen):
            flag, equals, value = word.partition("=")
            action = self._option_string_actions.get(flag)
            if action is None or not _takes_path(action):
                continue
            if not equals:
                value = self.seen[i + 1] if i + 1 < len(self.seen) else "given later"
            if not value.strip():
                kind = "file" if action.metavar == "FILE" else "folder"
                raise InputError(f"{flag} is empty; expected a {kind}")

    def error(self, message: str):
        own = options(self)
        hints = [
            f"{word} isn't a flag of this program; did you mean {near}?"
            for word in unknown(self.seen, own)
            if (near := self.meant.get(word.lstrip("-")) or close(word, own))
        ]
        super().error("; ".join([message, *hints]))


def _underscored(flag: str) -> str:
    return flag[:2] + flag[2:].replace("-", "_")


def _as_defined(word: str, own: Mapping[str, str]) -> str:
    """Returns a flag as the parser spells it, with hyphens or underscores."""
    flag, equals, value = word.partition("=")
    if not flag.startswith("--"):
        return word
    return f"{own.get(_underscored(flag), flag)}{equals}{value}"


def options(parser: argparse.ArgumentParser) -> list[str]:
    """Returns a parser's long flags."""
    return [o for a in parser._actions for o in a.option_strings if o[:2] == "--"]


def unknown(words: Iterable[str], own: Sequence[str]) -> list[str]:
    """Returns the flags in `words` that are not in `own`."""
    flags = [w.partition("=")[0] for w in words if w.startswith("--") and len(w) > 2]
    return [
        flag
        for flag in dict.fromkeys(flags)
        if not flag.startswith("--config") and flag not in own
    ]


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --quiet and --json, which `program.output` reads."""
    parser.add_argument(
        "--quiet", action="store_true", help="print results and warnings only"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the results as one JSON object; all else goes to standard error",
    )


def _takes_path(action: argparse.Action) -> bool:
    """Whether a flag's value is the path of one file or folder."""
    path = action.type in (pathlib.Path, output_folder)
    return path or action.metavar in ("DIR", "FILE") or action.dest in PATHS


def output_folder(word: str) -> pathlib.Path:
    """Returns the folder that a flag names, for argparse.

    Raises:
      argparse.ArgumentTypeError: no name of a folder.
    """
    if "\0" in word:
        raise argparse.ArgumentTypeError(
            f"{word!r} names no folder; pass the folder for the results, such as results"
        )
    return pathlib.Path(word)


def check_fps(fps: float | None) -> None:
    """Raises InputError for a frame rate that no recording has; None is not passed.

    Args:
      fps: value of --fps.
    """
    low, high = FPS
    if fps is not None and not low <= fps <= high:
        raise InputError(
            f"--fps is {fps}; expected frames per second, {low:g} to {high:g}"
        )


def close(word: str, known: Sequence[str]) -> str:
    """Returns the one of `known` that is written nearly as `word`, or ""."""
    return next(iter(difflib.get_close_matches(word, known, 1, 0.75)), "")


def keys_meant(word: str, keys: Sequence[str]) -> list[str]:
    """Returns the keys of a recipe that a flag may mean, the nearest ones.

    Args:
      word: of the flag, such as --epochs.
      keys: all of the recipe's, as clean.epochs.
    """
    name = word.lstrip("-").replace("-", "_").lower()
    name = SYNONYMS.get(name, name)

    # Exact names come before similar ones.
    whole = [k for k in keys if k == name or k.endswith(f".{name}")]
    if whole:
        return whole

    last = dict.fromkeys(k.rpartition(".")[2] for k in keys)
    near = close(name, list(last))
    return [k for k in keys if k.rpartition(".")[2] == near] if near else []


def given(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> dict[str, str]:
    """Returns the flags that were passed, by their names in the parsed arguments.

    Flags left at their defaults are not among them. So a flag that a mode doesn't read
    differs from one that nobody passed.
    """
    # A mark in place of each default shows which flags were passed. Flags that may be
    # repeated copy the list and append to the copy.
    nothing: list[Any] = []
    actions = [a for a in parser._actions if a.option_strings and a.dest != "help"]
    before = argparse.Namespace(**{a.dest: nothing for a in actions})
    found, _ = parser.parse_known_args(argv, before)

    return {
        a.dest: max(a.option_strings, key=len)
        for a in actions
        if getattr(found, a.dest) is not nothing
    }


def refuse(
    passed: Mapping[str, str], names: Iterable[str], mode: str, instead: str = ""
) -> None:
    """Raises InputError where a flag was passed that the mode doesn't read.

    Args:
      passed: of `given`.
      names: of the flags that `mode` has no use for.
      mode: in words, such as --live.
      instead: what to do, where it isn't to leave the flag out.
    """
    unused = [passed[name] for name in names if name in passed]

    if unused:
        it = "it" if len(unused) == 1 else "them"
        verb = "has" if len(unused) == 1 else "have"
        raise InputError(
            f"{', '.join(unused)} {verb} no effect with {mode}; "
            f"{instead or f'leave {it} out'}"
        )


def count(text: str) -> int:
    """Reads a whole number from 1 on; raises argparse's error where it is none."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def install(extra: str) -> str:
    """Returns the command that installs what an extra of the package needs."""
    return shlex.join(["pip", "install", *EXTRAS[extra]])


def command(program: str, *words: object) -> str:
    """Returns a command line as a shell takes it, whatever is in the words."""
    return shlex.join(["python", "-m", f"wsvad_jax.{program}", *map(str, words)])


def wrong_value(message: str, config: Any) -> str:
    """Returns what follows "--config" in the error about a recipe's flag.

    Args:
      message: absl's, which repeats Python's words, such as "invalid literal for int()".
      config: recipe, `ml_collections.ConfigDict`.
    """
    python = r": (?:invalid literal|could not convert|\()"
    parts = re.match(rf"flag --config\.([^=\s]+)=(.*?){python}", message, re.DOTALL)
    if parts is None:
        return f": {' '.join(message.split())}"

    *sections, key = parts[1].split(".")
    for section in sections:
        config = config[section]
    kind = config.get_type(key)
    expected = KINDS.get(kind, f"a value of type {kind.__name__}")
    return f".{parts[1]} is {parts[2]!r}; expected {expected}"


def refuse_groups(config: Any, arguments: Iterable[str]) -> None:
    """Raises InputError for a flag that gives a value to a group of keys.

    Args:
      config: recipe, `ml_collections.ConfigDict`.
      arguments: flags, as --config.KEY=VALUE.
    """
    for flag in (argument.partition("=")[0] for argument in arguments):
        path = flag.removeprefix("--config.")
        if path == flag:
            continue
        group: Any = config
        for name in path.split("."):
            group = group.get(name) if hasattr(group, "items") else None

        if hasattr(group, "items"):
            keys = [f"--config.{path}.{key}=…" for key in flatten(group.to_dict())]
            instead = " or ".join(keys[:3])
            instead = f"; pass one of them, such as {instead}" if keys else ""
            raise InputError(f"{flag}: {path} is a group of keys{instead}")
