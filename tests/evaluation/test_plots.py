"""The picture at a training's end: what isn't known isn't drawn."""

import dataclasses

import pytest
from finished import CARD, scored
from matplotlib.text import Text

from wsvad_jax.evaluation import plots


def texts(videos, path, monkeypatch) -> list[str]:
    figures, save = [], plots._save
    monkeypatch.setattr(plots, "_save", lambda f, p: (figures.append(f), save(f, p)))
    plots.report_png(path, videos, [], title="t", class_names=CARD.class_names)
    return [t.get_text() for t in figures[0].findobj(Text)]


@pytest.mark.parametrize("known", [True, False])
def test_rows_without_truth_say_so(tmp_path, monkeypatch, known):
    videos = scored(0)
    if not known:
        videos = [dataclasses.replace(v, segments=()) for v in videos]
    found = texts(videos, tmp_path / "report.png", monkeypatch)
    abnormal = sum(v.abnormal for v in plots.choose_videos(videos))
    rows = [text for text in found if text.startswith("no ground truth")]
    assert len(rows) == (0 if known else abnormal)
    assert ("true anomaly" in found) == known
