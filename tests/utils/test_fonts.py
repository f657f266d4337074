"""Names in pictures: in a font that has them, or as escapes."""

import unicodedata

import pytest

from wsvad_jax.utils import fonts

HANGUL = "정문"


@pytest.fixture
def alone(monkeypatch):
    """A system with no fonts but matplotlib's own."""
    monkeypatch.setattr(fonts, "_installed", lambda: ())
    fonts._families.cache_clear()
    yield
    fonts._families.cache_clear()


def test_text_that_the_usual_font_has_is_left_alone():
    assert (
        fonts.drawable("Überfall an der Tür, 3 $x_i$") == "Überfall an der Tür, 3 $x_i$"
    )
    assert fonts._families(frozenset("Tür")) == ()


def test_what_no_font_has_is_an_escape(alone):
    assert fonts.drawable(f"a {HANGUL}\n") == "a \\uc815\\ubb38\\n"


def test_an_installed_font_is_taken():
    if not fonts._families(frozenset(HANGUL)):
        pytest.skip("no font with Hangul is installed")
    assert fonts.drawable(unicodedata.normalize("NFD", HANGUL)) == HANGUL
    with fonts.drawing({}, [HANGUL]):
        import matplotlib as mpl

        families = mpl.rcParams["font.family"]
    assert families[0] == fonts.BASE and len(families) == 2
