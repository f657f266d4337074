"""Renders templates of assets/ as self-contained HTML documents.

jinja2 escapes every value that a template prints, so names from outside stay text.
"""

import base64
import functools
import hashlib
import importlib.resources
import pathlib
import re
from collections.abc import Mapping, Sequence

import jinja2
from markupsafe import Markup, escape

from wsvad_jax.utils.files import atomic_path

TIME = r"\d+(?::\d\d)+(?:\.\d)?"
UNBROKEN = re.compile(rf"{TIME}–{TIME}|\bscore (?:is )?\d\.\d+")
SEPARATOR = re.compile(r"(?<=\w)_(?=\w)")  # in names; browsers break after hyphens


def write_document(
    path: pathlib.Path,
    template: str,
    values: Mapping[str, object],
    *,
    styles: Sequence[str] = ("report.css",),
    script: str = "report.js",
) -> None:
    """Writes a document that loads nothing from elsewhere, whole or not at all.

    Args:
      path: file to write.
      template: template in assets/ that extends document.html.
      values: variables of the template, `title` among them.
      styles: style sheets in assets/ that the document contains.
      script: script in assets/ that the document contains; "" for none.
    """
    style = "\n".join(map(_asset, styles))
    code = _asset(script) if script else ""

    # A browser runs only what has one of these hashes, whatever else gets in.
    allowed = _hash(code) if code else "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; "
        f"style-src {_hash(style)}; img-src data:; media-src data: file: 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    # These texts are the package's own, so they are not escaped.
    trusted = {"policy": policy, "style": style, "script": code}
    marked = {name: Markup(text) for name, text in trusted.items()}

    chunks = _templates().get_template(template).generate(**values, **marked)
    # Written in chunks, since a document may contain 100 MB of video.
    with (
        atomic_path(path) as temporary,
        open(
            temporary, "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as file,
    ):
        file.writelines(chunks)


@functools.cache
def _templates() -> jinja2.Environment:
    """Returns the environment of the templates; an undefined variable is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wsvad_jax", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def unbroken(text: str) -> Markup:
    """Returns text as HTML in which a time span, or a score, stays on one line."""
    # Long names have no spaces, so they may break after a separator instead.
    escaped = str(escape(text))
    joined = UNBROKEN.sub(r'<span class="unbroken">\g<0></span>', escaped)
    return Markup(SEPARATOR.sub(r"\g<0><wbr>", joined))


def data_uri(content: bytes, mime: str) -> Markup:
    """Returns bytes as an address that contains them; `mime` is not escaped."""
    # Base64 has no characters to escape, and may be long.
    return Markup(f"data:{mime};base64,{base64.b64encode(content).decode()}")


def _asset(name: str) -> str:
    folder = importlib.resources.files("wsvad_jax").joinpath("assets")
    return folder.joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
