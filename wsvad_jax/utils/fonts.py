"""Fonts for pictures: names in any script, drawn with what is installed.

Matplotlib brings a font for Latin, Greek, Cyrillic and some more. Names in other scripts
are drawn with fonts of the system that have them; what none has is drawn as an escape.
"""

import contextlib
import functools
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wsvad_jax.utils.errors import printable

BASE = "DejaVu Sans"  # comes with matplotlib
# Looked into first, of many that may be installed: those with Chinese, Japanese and
# Korean, on Linux, macOS and Windows, then those of other scripts.
PREFERRED = (
    "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC",
    "Noto Sans KR", "Noto Sans JP", "Noto Sans SC", "Noto Sans TC", "NanumGothic",
    "Source Han Sans", "WenQuanYi Zen Hei", "Apple SD Gothic Neo", "PingFang SC",
    "Hiragino Sans", "Arial Unicode MS", "Malgun Gothic", "Microsoft YaHei", "Yu Gothic",
    "Noto Sans", "FreeSans", "Unifont",
)  # fmt: skip


@contextlib.contextmanager
def drawing(style: Mapping[Any, Any], texts: Iterable[str]) -> Iterator[None]:
    """Sets matplotlib to a style, and to fonts that have `texts`.

    Args:
      style: matplotlib's settings.
      texts: what will be drawn, after `drawable`.
    """
    import matplotlib as mpl

    wanted = frozenset(c for text in texts for c in shown(text))
    with _quiet():
        families: dict[Any, Any] = {"font.family": [BASE, *_families(wanted)]}
        with mpl.rc_context(families | dict(style)):
            yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself that a font has no bold face."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def drawable(text: str) -> str:
    """Returns a text in one line, with escapes for what no font here has."""
    text = shown(text)
    characters = frozenset(text)
    with _quiet():
        families = (BASE, *_families(characters))
        lost = characters.difference(*map(_characters, families))
    return "".join(ascii(c)[1:-1] if c in lost else c for c in text)


def shown(text: str) -> str:
    """Returns a text composed, as fonts have it, in one line."""
    return printable(unicodedata.normalize("NFC", text))


@functools.lru_cache(256)
def _families(characters: frozenset[str]) -> tuple[str, ...]:
    """Returns as few families as have all characters that `BASE` lacks."""
    lost, found = characters - _characters(BASE), []
    for family in _installed() if lost else ():
        if has := lost & _characters(family):
            found.append(family)
            lost -= has
        if not lost:
            break
    return tuple(found)


@functools.cache
def _installed() -> tuple[str, ...]:
    from matplotlib import font_manager

    manager = font_manager.fontManager
    # Its list is kept in a file, and may be older than a font.
    listed = {entry.fname for entry in manager.ttflist}
    for path in set(font_manager.findSystemFonts()) - listed:
        with contextlib.suppress(Exception):  # a damaged font can raise anything
            manager.addfont(path)
    # Emoji as bitmaps can't be drawn.
    names = {entry.name for entry in manager.ttflist if entry.size == "scalable"}
    first = [name for name in PREFERRED if name in names]
    return (*first, *sorted(names.difference(first, {BASE})))


@functools.cache
def _characters(family: str) -> frozenset[str]:
    """Returns what the font that stands for a family can draw."""
    from matplotlib import font_manager

    try:
        path = font_manager.findfont(family, fallback_to_default=False)
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except Exception:  # noqa: BLE001 a damaged font can raise anything
        return frozenset()
