"""Pages as tests read them: elements, words and scripts."""

import html.parser
import re

from wsvad_jax.detection.report import page


class Page(html.parser.HTMLParser):
    """Elements of a page with their attributes, and its text outside of scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.words, self.scripts, self.inside = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        self.part(tag)

    def handle_endtag(self, tag):
        self.inside = ""
        self.part(tag)

    def part(self, tag):
        """Parts the words, unless the element stands within a line."""
        if tag not in ("span", "wbr"):
            self.words.append(" ")

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag, **attributes):
        wanted = {k.rstrip("_"): v for k, v in attributes.items()}
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def write(tmp_path, results, **options):
    options = {"title": "Report", "settings": {}, **options}
    written = page.write_report(tmp_path / "report.html", results, **options)
    return Page(written[0].read_text()), written
