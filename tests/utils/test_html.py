"""Documents: values are escaped, and nothing is half written."""

import re

import jinja2
import pytest

from wsvad_jax.utils import html

EVIL = "</title><script>alert(1)</script> \udce9"
VALUES = {
    "title": EVIL,
    "facts": [EVIL],
    "note": f"*{EVIL}* and more",
    "datasets": [],
    "unknown": "",
}


def write(path, values):
    html.write_document(path, "results.html", values, script="")
    return path.read_text()


def test_values_are_escaped_and_no_name_stops_the_page(tmp_path):
    text = write(tmp_path / "a.html", VALUES)
    assert "<script" not in text and text.count("</title>") == 1
    assert text.count("\\udce9") == 3
    assert "<em>&lt;/title&gt;" in text


def test_the_policy_has_the_hash_of_what_is_inside(tmp_path):
    html.write_document(tmp_path / "a.html", "results.html", VALUES)
    text = (tmp_path / "a.html").read_text()
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert f"{tag}-src {html._hash(content)};" in text


def test_a_template_without_its_values_writes_nothing(tmp_path):
    with pytest.raises(jinja2.UndefinedError):
        write(tmp_path / "a.html", {"title": "a"})
    assert not list(tmp_path.iterdir())


def test_bytes_as_an_address():
    assert html.data_uri(b"\xff\xd8", "image/jpeg") == "data:image/jpeg;base64,/9g="
