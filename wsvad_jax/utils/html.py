"""Writes an HTML document with its styles and script inside."""

import base64
import hashlib
import html
import importlib.resources
import pathlib
from collections.abc import Sequence

from wsvad_jax.utils.files import write_text


def write_document(
    path: pathlib.Path,
    title: str,
    body: str,
    styles: Sequence[str] = ("report.css",),
    script: str = "report.js",
) -> None:
    """Writes a document around `body`, whole or not at all.

    Args:
      path: of the file.
      title: of the document.
      body: HTML whose names are escaped.
      styles: files in assets/.
      script: one in assets/, "" for none.
    """
    style = "\n".join(map(_asset, styles))
    code = f"<script>{_asset(script)}</script>\n" if script else ""
    allowed = _hash(_asset(script)) if script else "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; "
        "img-src data:; media-src data: file: 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>{body}</main>\n{code}</body>\n</html>\n"
    )
    write_text(path, page)


def _asset(name: str) -> str:
    folder = importlib.resources.files("wsvad_jax").joinpath("assets")
    return folder.joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
