"""Plain English: words that the project's prose does without, and room in the code."""

import ast
import io
import pathlib
import re
import tokenize
from collections.abc import Iterator

from reading_comfort import by_part

REPOSITORY = pathlib.Path(__file__).parent.parent
BANNED = (
    "anew",
    "goes? on",
    "lies",
    "held against",
    "told",
    "one's own",
    "rid of",
    "ow(e|es|ed)",
    "for want of",
    "as they come",
)
PATTERN = re.compile(rf"\b({'|'.join(BANNED)})\b", re.IGNORECASE)
PAGES = ("README.md", "CONTRIBUTING.md", "launch/README.md", "docs/**/*.md")


def prose(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields line number and text of what a person reads in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())


def test_banned_words_are_in_no_prose():
    paths = [*(REPOSITORY / "wsvad_jax").rglob("*.py")]
    paths += [*(REPOSITORY / "configs").glob("*.py")]
    for pattern in PAGES:
        paths += REPOSITORY.glob(pattern)
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {match[0]}"
        for path in sorted(paths)
        for line, text in prose(path)
        for match in PATTERN.finditer(text)
    ]
    assert not found


def test_functions_have_pauses_and_comments():
    every = by_part()
    total = sum(every.values(), type(next(iter(every.values())))())
    comments, blank = total.of_code
    assert comments >= 0.04 and blank >= 0.08
