"""A short video per event: names, list, links, and files that are never replaced."""

import json
import pathlib
import shutil

import pytest
from sample_videos import write_video
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.detection import event_clips
from wsvad_jax.detection.event_clips import ClipFolder
from wsvad_jax.extraction.video import Video
from wsvad_jax.utils import program
from wsvad_jax.utils.errors import InputError

ANY = "--low", "0.0001", "--high", "0.0001"  # the whole video is an event


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return write_model(tiny, "mil_ranking", tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "front door.mp4", 80)


@pytest.fixture
def run(tiny, model, tmp_path):
    """Runs `detect` with clips; returns the exit code."""

    def call(*words, output=tmp_path / "found"):
        options = "--checkpoint", model, "--clip", tiny.clip, "--output", output
        return detect.main([str(word) for word in (*words, *options, *ANY)])

    return call


def only_event(folder: pathlib.Path):
    (video,) = json.loads((folder / "events.json").read_text())["videos"]
    (event,) = video["events"]
    return event


def frames_of(path):
    video = Video(path)
    return sum(1 for _ in video.frames())


def test_an_event_has_a_clip_in_all_results(run, video, tmp_path):
    assert run(video, "--clips", tmp_path / "clips") == 0
    clip = only_event(tmp_path / "found")["clip"]
    path = tmp_path / "clips" / "front-door_0h00m00.0s_anomaly.mp4"
    assert clip == {
        "path": str(path),
        "start": 0.0,
        "end": 5.0,
        "event_at": 0.0,
        "copied": True,
        "remark": "",
    }
    assert frames_of(path) == 80
    (line,) = map(json.loads, (tmp_path / "clips/clips.jsonl").read_text().splitlines())
    assert line["file"] == path.name and line["source"] == str(video)
    assert line["event"]["end"] == 5.0 and line["size"] == path.stat().st_size

    page = (tmp_path / "found" / "report.html").read_text()
    assert 'href="../clips/front-door_0h00m00.0s_anomaly.mp4"' in page
    head, row = (tmp_path / "found" / "events.csv").read_text().splitlines()
    assert head.endswith(",peak,clip,event_at") and row.endswith(f",{path},0.0")


def test_a_second_run_replaces_its_own_clips_only(run, video, tmp_path):
    clips = tmp_path / "found"  # of clips and results in one folder
    assert run(video, "--clips", clips) == 0
    assert run(video, "--clips", clips) == 0
    (clip,) = clips.glob("*.mp4")

    # The user's own file of this name stays.
    clip.write_bytes(b"mine")
    assert run(video, "--clips", clips) == 0
    assert clip.read_bytes() == b"mine"
    other = clips / f"{clip.stem}-2.mp4"
    assert only_event(clips)["clip"]["path"] == str(other)

    # Another video of this name is another source.
    again = shutil.copy(video, tmp_path / video.name)
    assert run(again, "--clips", clips) == 0
    assert len(list(clips.glob("*.mp4"))) == 3


def test_events_of_one_name_get_numbers(tmp_path):
    folder = ClipFolder(tmp_path / "clips")
    names = [
        folder.target(video, start, category, "a.mp4").name
        for video, start, category in [
            ("day/lobby", 3723.46, "Road accident"),
            ("day-lobby", 3723.45, "road accident"),
            ("../..", 59.96, "/"),
            ("v" * 300, 0.0, "정" * 90),
            ("정" * 90, 0.0, "정" * 90),
        ]
    ]
    assert names[:3] == [
        "day-lobby_1h02m03.5s_Road-accident.mp4",
        "day-lobby_1h02m03.5s_road-accident-2.mp4",
        "video_0h01m00.0s_event.mp4",
    ]
    assert all(len(name.encode()) < 255 for name in names)


def test_margin_and_length_are_bounded(tmp_path):
    folder = ClipFolder(tmp_path / "clips", 2.0)
    assert folder.span(10.0, 20.0) == (8.0, 22.0)
    assert folder.span(10.0, 9000.0) == (8.0, 612.0)
    for margin in (-1.0, 301.0, float("nan"), float("inf")):
        with pytest.raises(
            InputError, match="--clip_margin is .*expected seconds from 0"
        ):
            event_clips.check_margin(margin)


def refused(capsys, call) -> str:
    with pytest.raises(SystemExit) as e:
        program.run(call)
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("error: ") == 1
    return err[err.index("error: ") :].strip()


def test_careless_values_are_answered_in_a_sentence(run, video, tiny, tmp_path, capsys):
    taken = tmp_path / "a file"
    taken.write_text("mine")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "clips.jsonl").write_text("my list\nof clips\n")
    answers = {
        ("--clips", ""): "--clips is empty; expected a folder",
        ("--clips", taken): "is a file; expected a folder",
        ("--clips", taken / "x"): "can't be written",
        ("--clips", tiny.clip): "--clip names a CLIP model",
        (
            "--clips",
            "x" * 300,
        ): "can't be a folder (File name too long); choose another",
        ("--clips", foreign): "clips.jsonl: line 1 is none of a list of clips",
        ("--clips", tmp_path / "c", "--clip_margin", "-1"): "--clip_margin is -1;",
        ("--clips", tmp_path / "c", "--clip_margin", "nan"): "--clip_margin is nan;",
        ("--clips", tmp_path / "c", "--clip_margin", "1e9"): "--clip_margin is 1e+09;",
        ("--clips", tmp_path / "c", "--clip_margin", "five"): "invalid float value",
        (
            "--clip_margin",
            "3",
        ): "--clip_margin has no effect with events that have no clips",
    }
    for words, answer in answers.items():
        assert answer in refused(capsys, lambda words=words: run(video, *words)), words
    where = tmp_path / "videos"
    where.mkdir()
    shutil.copy(video, where / "a.mp4")
    said = refused(capsys, lambda: run(where, "--clips", where / "clips"))
    assert "whose next run would score the clips" in said
    features = tiny.root / "own" / "features"
    said = refused(capsys, lambda: run(features, "--clips", tmp_path / "c"))
    assert "all inputs are features" in said
    assert taken.read_text() == "mine" and not (tmp_path / "found").exists()
    assert not (tmp_path / "c").exists()
