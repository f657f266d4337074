"""Chooses fonts that can draw names in any script.

Matplotlib contains a font for Latin, Greek, Cyrillic and a few other scripts. Other
scripts need a font of the system. A character that no font has is drawn as an escape.
"""

import contextlib
import functools
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wsvad_jax.utils.errors import printable

BASE = "DejaVu Sans"  # comes with matplotlib
# Fonts to try first, since many may be installed: those with Chinese, Japanese and
# Korean on Linux, macOS and Windows, then those of other scripts.
PREFERRED = (
    "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC",
    "Noto Sans KR", "Noto Sans JP", "Noto Sans SC", "Noto Sans TC", "NanumGothic",
    "Source Han Sans", "WenQuanYi Zen Hei", "Apple SD Gothic Neo", "PingFang SC",
    "Hiragino Sans", "Arial Unicode MS", "Malgun Gothic", "Microsoft YaHei", "Yu Gothic",
    "Noto Sans", "FreeSans", "Unifont",
)  # fmt: skip


@contextlib.contextmanager
def drawing(style: Mapping[Any, Any], texts: Iterable[str]) -> Iterator[None]:
    """Sets matplotlib's style, and fonts that can draw `texts`.

    Args:
      style: settings of matplotlib.
      texts: texts of the picture.
    """
    import matplotlib as mpl

    characters = frozenset(c for text in texts for c in to_one_line(text))
    with _quiet():
        families: dict[Any, Any] = {"font.family": [BASE, *_families(characters)]}
        with mpl.rc_context(families | dict(style)):
            yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides matplotlib's warnings that a font has no bold face."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def drawable(text: str) -> str:
    """Returns a text in one line, with escapes for characters that no font has."""
    text = to_one_line(text)
    characters = frozenset(text)
    with _quiet():
        families = (BASE, *_families(characters))
        missing = characters.difference(*map(_characters, families))
    return "".join(ascii(c)[1:-1] if c in missing else c for c in text)


def to_one_line(text: str) -> str:
    """Returns a text in one line, with composed characters, as fonts have them."""
    return printable(unicodedata.normalize("NFC", text))


@functools.lru_cache(256)
def _families(characters: frozenset[str]) -> tuple[str, ...]:
    """Returns a few families that have all characters missing in `BASE`."""
    missing, families = characters - _characters(BASE), []
    for family in _installed() if missing else ():
        if added := missing & _characters(family):
            families.append(family)
            missing -= added
        if not missing:
            break
    return tuple(families)


@functools.cache
def _installed() -> tuple[str, ...]:
    from matplotlib import font_manager

    manager = font_manager.fontManager

    # Matplotlib caches its list in a file, which may be older than a font.
    listed = {entry.fname for entry in manager.ttflist}
    for path in set(font_manager.findSystemFonts()) - listed:
        with contextlib.suppress(Exception):  # a damaged font can raise anything
            manager.addfont(path)

    # Matplotlib can't draw fonts of bitmaps, such as emoji.
    names = {entry.name for entry in manager.ttflist if entry.size == "scalable"}
    first = [name for name in PREFERRED if name in names]
    return (*first, *sorted(names.difference(first, {BASE})))


@functools.cache
def _characters(family: str) -> frozenset[str]:
    """Returns the characters that a family's font can draw."""
    from matplotlib import font_manager

    try:
        path = font_manager.findfont(family, fallback_to_default=False)
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except Exception:  # noqa: BLE001 a damaged font can raise anything
        return frozenset()
