"""The program: table, JSON and page, and what is bad input."""

import json

import numpy as np
import pytest
from PIL import Image
from scene_videos import scene, write_scenes

from wsvad_jax import extract, search
from wsvad_jax.utils import program
from wsvad_jax.utils.files import read_json, write_json

ODD = 'it\'s "x" <b>&amp; 影'


@pytest.fixture(scope="module")
def place(tmp_path_factory, clip):
    """A folder with videos/ and features/ of two videos, and a picture."""
    path = tmp_path_factory.mktemp("place")
    (path / "videos").mkdir()
    write_scenes(path / "videos" / "a.mp4", range(4))
    write_scenes(path / "videos" / f"{ODD}.mp4", range(10, 13))
    Image.fromarray(scene(11)).save(path / "frame.png")
    arguments = [path / "videos", "--clip", clip, "--output", path / "features"]
    assert extract.main([str(a) for a in [*arguments, "--quiet"]]) == 0
    return path


def run(*arguments):
    return search.main([str(a) for a in arguments])


def refused(capsys, *arguments):
    """What the program says about arguments that it refuses, in one line."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: run(*arguments))
    assert e.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err and err.count("error: ") == 1 and not out
    return err[err.index("error: ") :].strip()


def test_a_table_by_words(place, capsys):
    assert run("a car on fire", place / "features", "--top", 4) == 0
    out, err = capsys.readouterr()
    head, _, *rows, last = out.splitlines()
    assert head.split() == ["rank", "cosine", "time", "video"]
    assert [row.split()[0] for row in rows] == [str(i + 1) for i in range(len(rows))]
    assert 1 <= len(rows) <= 4 and last == "searched: 7 snippets of 2 videos"
    assert "note: " in err and "random weights" in err


def test_json_and_page_by_picture(place, tmp_path, capsys):
    output = tmp_path / "hits"
    picture = place / "frame.png"
    words = ["--image", picture, place / "features", "--json", "--output", output]
    assert run(*words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == read_json(output / "search.json")
    assert found["query"] == {"image": str(picture)}
    assert (found["videos"], found["snippets"]) == (2, 7)
    assert found["settings"]["crop"] == "the only one"
    best = found["moments"][0]
    assert (best["rank"], best["video"]) == (1, ODD)
    assert best["peak"] == 1.5 and best["score"] > 0.9
    assert sorted(p.name for p in output.iterdir()) == ["search.html", "search.json"]

    page = (output / "search.html").read_text()
    assert page.count("data:image/jpeg;base64,") == len(found["moments"]) + 1
    assert "it&#39;s &#34;x&#34; &lt;b&gt;&amp;amp; 影" in page and ODD not in page


@pytest.mark.parametrize(
    "change, message",
    [
        (["  ", "features"], "the query is empty"),
        (["features"], "is alone; pass the words to search for"),
        (["a car"], "is alone; pass what is searched"),
        (["features", "a car"], "the words to search for come first"),
        (["features", "fire"], "the words to search for come first"),
        (
            ["a", "car", "features"],
            'the words to search for in quotes, such as "a car"',
        ),
        (["\udcff", "features"], "is not valid UTF-8 text"),
        (["a car", "gone"], "gone: no such file or folder"),
        (["a car", "empty"], "no video files"),
        (["a car", "features", "--clip", "gone/by/far"], "gone/by/far: no such folder"),
        (["a car", "features", "--image", "frame.png"], "are two queries; pass one"),
        (["", "features", "--image", "frame.png"], "are two queries; pass one"),
        (["features", "--image", "gone.png"], "gone.png: no such file"),
        (["features", "--image", "half.png"], "half.png: not a whole picture"),
        (["features", "--image", "videos/a.mp4"], "a.mp4: not a whole picture"),
        (["a car", "features", "--top", "0"], "top is 0; expected at least 1"),
        (["a car", "features", "--per_video", "-1"], "per_video is -1; expected at"),
        (["a car", "features", "--fps", "nan"], "--fps is nan; expected frames per"),
        (["a car", "nan"], "a.npy: 1 values cannot be used"),
        (["a car", "videos"], "searched with a CLIP model; pass one as --clip"),
        (["a" * 99, "features"], "tokens, but the CLIP text tower reads 77"),
        (["a car", "features", "--videos", "empty"], "holds no video files"),
        (["a car", "features", "--videos", "frame.png"], "no video there has the name"),
    ],
)
def test_what_is_refused(place, tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(place)
    (place / "empty").mkdir(exist_ok=True)
    (place / "half.png").write_bytes((place / "frame.png").read_bytes()[:200])
    (place / "nan").mkdir(exist_ok=True)
    bad = np.ones((4, 16), np.float16)
    bad[1, 2] = np.nan
    np.save(place / "nan" / "a.npy", bad)
    write_json(place / "nan" / "protocol.json", read_json("features/protocol.json"))
    assert message in refused(capsys, *change, "--output", tmp_path / "hits")
    assert not (tmp_path / "hits").exists()


def test_unreadable_videos_end_with_three(place, clip, tmp_path, capsys):
    write_scenes(tmp_path / "good.mp4", [1])
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    assert run("a car", tmp_path, "--clip", clip) == program.EXIT_SKIPPED
    out, err = capsys.readouterr()
    assert "good" in out and "skipped: " in err and "bad.mp4" in err


def test_the_page_in_a_browser(place, tmp_path, browser):
    run("a car on fire", place / "features", "--output", tmp_path)
    browser.open(tmp_path / "search.html")
    assert browser.one("h1").text == "“a car on fire”"
    pictures = browser.all(".moment img")
    assert pictures and len(pictures) == len(browser.all(".moment"))
    assert all(browser.run("return arguments[0].naturalWidth", p) for p in pictures)
    wide = "return document.documentElement.scrollWidth"
    browser.open(tmp_path / "search.html", width=400)
    assert browser.run(wide) <= 400
    assert not browser.errors()
