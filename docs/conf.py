"""How Sphinx makes the documentation: python -m sphinx -W -b html docs docs/_build."""

import re

from wsvad_jax import __version__

project = "wsvad_jax"
author = "the authors of wsvad_jax"
release = version = __version__
html_title = f"wsvad_jax {release}"
html_theme = "furo"
html_show_copyright = False

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
napoleon_numpy_docstring = False

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "ignore-module-all": True,  # a name is documented where it is defined
    "special-members": "__call__",
}
autodoc_preserve_defaults = True
# Annotations name classes without their module.
suppress_warnings = ["ref.python"]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

SECTION = re.compile(r"(Args|Returns|Raises|Yields):$")


def plain(text: str) -> str:
    """Escapes what reStructuredText would read as markup; `code` becomes ``code``."""
    parts = re.split(r"(`[^`]+`)", text)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"`{part}`"
        else:
            parts[i] = re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part)
        if i and re.match(r"\w", part):
            parts[i] = f"\\ {parts[i]}"  # as in `frame`s
    return "".join(parts)


def read_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Reads docstrings as plain text: what is indented, or a table, stays as it is."""
    out: list[str] = []
    literal = section = False
    for line in lines:
        indented = line.startswith(" ")
        # From the first section on, napoleon has the layout. A module has no sections.
        if SECTION.match(line) and what != "module":
            section, literal = True, False
        if section or line.startswith((">>> ", "... ")):
            out.append(line if line.startswith((">>> ", "... ")) else plain(line))
            continue

        # A block of commands, shapes or equations begins or ends here.
        if indented and not literal:
            out += ["", "::", ""]
        elif literal and not indented and line.strip():
            out.append("")
        literal = indented or (literal and not line.strip())
        out.append(line if indented else plain(line))
    lines[:] = out


def shorter(app, what, name, obj, options, signature, returned):
    """Signatures without what every linen module has, and without JAX's inner names."""
    if signature:
        signature = re.sub(r",? ?parent: \S*Module \|.*?name: .*?= None", "", signature)
        signature = signature.replace("jaxlib._jax.Array", "Array")
    return signature, returned and returned.replace("jaxlib._jax.Array", "Array")


def is_foreign(app, what, name, obj, skip, options) -> bool | None:
    """Leaves out what flax adds to classes, and functions that are fields' defaults."""
    module = getattr(obj, "__module__", None) or "wsvad_jax"
    if name == "replace" or (callable(obj) and not module.startswith("wsvad_jax")):
        return True
    return None


def setup(app) -> None:
    app.connect("autodoc-process-docstring", read_docstring, priority=100)
    app.connect("autodoc-process-signature", shorter)
    app.connect("autodoc-skip-member", is_foreign)
