"""Files of many cameras: what they may say, and one sentence where they say another."""

import contextlib
import io
import json

import pytest
from live_watch import of
from sample_videos import write_video
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.detection.cameras_file import read_cameras
from wsvad_jax.detection.live_sources import LiveSource
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.utils.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cameras")
    write_video(path / "lobby.mp4", 16 * 6)
    write_video(path / "yard.mp4", 16 * 6)
    (path / "folder").mkdir()
    return path


def write(folder, text, name="cameras.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


RULES = {"high": 0.7, "low": 0.4, "min_length": 0, "max_gap": 1}


def test_yaml_and_json_say_the_same(folder):
    cameras = [
        {"name": "옥상", "source": "lobby.mp4", "rules": RULES},
        {"source": "rtsp://camera/stream"},
    ]
    text = f"""
# of the house
cameras:
  - name: 옥상
    source: lobby.mp4
    rules: {json.dumps(RULES)}
  - source: rtsp://camera/stream
"""
    found = read_cameras(write(folder, text))
    assert found == read_cameras(
        write(folder, json.dumps({"cameras": cameras}), "cameras.json")
    )
    assert found == read_cameras(write(folder, json.dumps(cameras), "list.json"))
    assert found == [
        LiveSource(str(folder / "lobby.mp4"), "옥상", EventRules.from_options(RULES)),
        LiveSource("rtsp://camera/stream"),
    ]


def test_cameras_of_a_file_have_their_own_rules(folder, tiny, tmp_path):
    model = write_model(tiny, "dsanet", tmp_path / "model", frame="middle")
    text = """
- {name: never, source: lobby.mp4, rules: {high: 1, low: 1}}
- {name: always, source: lobby.mp4, rules: {high: 0.000001, low: 0.000001}}
"""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        words = ["--cameras", write(folder, text), "--live", str(folder / "yard.mp4")]
        words += ["--checkpoint", str(model), "--clip", str(tiny.clip), "--pace", "0"]
        assert detect.main(words) == 0
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    starts = {line["source"]: line for line in of(lines, "start")}
    assert {name: start["high"] for name, start in starts.items()} == {
        "never": 1.0,
        "always": 1e-6,
        "yard": 0.5,
    }
    assert starts["always"]["address"] == str(folder / "lobby.mp4")
    normal, *abnormal = starts["never"]["classes"]
    classes = {name: set() for name in starts}
    for line in of(lines, "snippet"):
        classes[line["source"]].add(line["class"])
    assert classes["never"] == {normal} and classes["always"] <= set(abnormal)
    assert {line["source"] for line in of(lines, "opened")} - {"yard"} == {"always"}


@pytest.mark.parametrize(
    "text, match",
    [
        ("", "expected the key cameras with a list, found None"),
        ("door", "expected the key cameras with a list, found 'door'"),
        ("cameras: []", "cameras must be a list of at least 1"),
        ("- lobby.mp4", r"cameras\[0\] must be an object"),
        ("- {name: a}", r"cameras\[0\].source is missing"),
        ("- {name: a, source: x, pace: 1}", "unknown key .*pace"),
        (
            "- {name: a, sorce: x}",
            r"unknown key .*sorce.*; expected one of name, source",
        ),
        ("- {sourse: x}\n- {name: b}", "unknown key .*sourse"),
        ("- {name: no, source: lobby.mp4}", "name must be a text, found False"),
        ("- {name: a/b, source: lobby.mp4}", "'a/b' can't be a source's name"),
        ("- {name: a, source: ''}", r"cameras\[0\] \(a\).source is empty"),
        (
            "- {name: a, source: gone.mp4}",
            r"cameras\[0\] \(a\): .*gone.mp4: no such file",
        ),
        ("- {name: a, source: folder}", "folder: is a folder"),
        ("- {source: lobby.mp4, source: yard.mp4}", "'source' is there twice"),
        ("- {source: lobby.mp4, calibration: folder}", "no calibration.json there"),
        ("- {source: lobby.mp4, calibration: x, rules: {}}", "calibration and rules"),
        ("- {source: lobby.mp4, rules: {hihg: 1}}", "rules.hihg: no such event rule"),
        ("- {source: lobby.mp4, rules: {high: .nan}}", "rules.high is nan"),
        ("- {source: lobby.mp4, rules: {high: true}}", "rules.high is True"),
        ("- {source: lobby.mp4, rules: {high: '0.7'}}", "rules.high is '0.7'"),
        ("- {source: lobby.mp4, rules: {share: 0.5}}", "rules.share is relative"),
        ("- {source: lobby.mp4, rules: {high: 0.3, low: 0.7}}", "low 0.7 is above"),
        ("cameras:\n\t- a", "line 2: is not YAML"),
        ("- !!python/object/apply:os.getcwd []", "line 1: is not YAML"),
    ],
)
def test_careless_files_are_refused_in_one_sentence(folder, text, match):
    path = write(folder, text)
    with pytest.raises(InputError, match=match) as error:
        read_cameras(path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["", " ", "folder", "gone.yaml", "lobby.mp4", "a\0b"])
def test_paths_that_are_no_such_file_are_refused(folder, path):
    with pytest.raises(InputError):
        read_cameras(path and f"{folder}/{path}")


@pytest.mark.parametrize(
    "words, match",
    [
        (("--cameras", "cameras.yaml", "a.mp4"), "beside --cameras, inputs"),
        (("--cameras", "cameras.yaml", "--output", "x"), "--output has no effect"),
        (("--cameras", "gone.yaml"), "gone.yaml: no such file"),
        (("--live", "-", "--live", "-"), "found twice"),
        (("--live", "-", "--pace", "2"), "only 0 changes it"),
        (("--live", "a\0b"), "null byte"),
        (
            ("--live", "-", "--when_behind", "drop", "--pace", "0"),
            "contradicts --pace 0",
        ),
        (("a.mp4", "--when_behind", "wait"), "--when_behind has no effect"),
    ],
)
def test_flags_that_contradict_are_refused_before_a_model_is_loaded(words, match):
    with pytest.raises(InputError, match=match):
        detect.main([*words, "--checkpoint", "none"])
