"""Shares of comment lines and blank lines in the package's longer functions.

  python tests/support/reading_comfort.py             a line per sub-package
  python tests/support/reading_comfort.py models      a line per file of one

A function counts from 15 lines on, from its `def` to its end. Shares are of all these
lines, and of the lines without docstrings.
"""

import ast
import dataclasses
import pathlib
import sys

PACKAGE = pathlib.Path(__file__).parent.parent.parent / "wsvad_jax"
SHORTEST = 15  # lines of a function that counts


@dataclasses.dataclass
class Shares:
    """Lines of functions, by kind."""

    lines: int = 0
    docstrings: int = 0
    comments: int = 0
    blank: int = 0  # outside docstrings

    def __add__(self, other: "Shares") -> "Shares":
        each = dataclasses.asdict(self), dataclasses.asdict(other)
        return Shares(**{name: each[0][name] + each[1][name] for name in each[0]})

    @property
    def of_code(self) -> tuple[float, float]:
        """Comment and blank share of the lines without docstrings."""
        code = max(self.lines - self.docstrings, 1)
        return self.comments / code, self.blank / code

    @property
    def of_all(self) -> tuple[float, float]:
        """The same shares of all lines."""
        lines = max(self.lines, 1)
        return self.comments / lines, self.blank / lines


def shares_of(path: pathlib.Path) -> Shares:
    """Counts the lines of a file's longer functions, each line once."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    inside: set[int] = set()
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 < SHORTEST:
            continue
        inside |= set(range(node.lineno, node.end_lineno + 1))
        # Blank lines of a docstring are no pause in the code.
        if ast.get_docstring(node) is not None:
            first = node.body[0]
            assert first.end_lineno is not None
            docstrings |= set(range(first.lineno, first.end_lineno + 1))

    code = [lines[number - 1].strip() for number in inside - docstrings]
    return Shares(
        lines=len(inside),
        docstrings=len(inside & docstrings),
        comments=sum(line.startswith("#") for line in code),
        blank=sum(not line for line in code),
    )


def by_part(package: str = "") -> dict[str, Shares]:
    """Returns the shares by sub-package, or by file of one sub-package."""
    found: dict[str, Shares] = {}
    for path in sorted((PACKAGE / package).rglob("*.py")):
        parts = path.relative_to(PACKAGE / package).parts
        name = "/".join(parts) if package else parts[0]
        found[name] = found.get(name, Shares()) + shares_of(path)
    return found


def main(package: str = "") -> None:
    found = by_part(package)
    found["all"] = sum(found.values(), Shares())
    print(f"{'':40} comments  blank   (with docstrings)")
    for name, shares in found.items():
        (c, b), (ca, ba) = shares.of_code, shares.of_all
        print(f"{name:40} {c:7.1%} {b:7.1%}   {ca:6.1%} {ba:6.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
