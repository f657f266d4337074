"""Calibrations of models in words: zero-shot CLIP, and a trained model's other words."""

import json

import pytest
from sample_videos import write_video
from untrained import write_model

from wsvad_jax import calibrate, detect
from wsvad_jax.detection.calibration import FILE, read_calibration
from wsvad_jax.utils import program
from wsvad_jax.utils.files import read_json

CLASSES = "Fight=people fighting|a brawl,a fire"
LEVELS = ("--high", "0.01", "--low", "0.01", "--min_length", "0")


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    """Six ordinary videos: real files, each of another length."""
    folder = tmp_path_factory.mktemp("normal")
    for i in range(6):
        write_video(folder / f"{i}.mp4", 16 * (3 + i))
    return folder


def done(module, *arguments):
    return module.main([str(argument) for argument in arguments])


def refused(capsys, module, *arguments) -> str:
    """What a program says about arguments that it refuses, in one line."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: done(module, *arguments))
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("error: ") == 1
    return err[err.index("error: ") :].strip()


def test_words_without_a_model_are_calibrated_on_videos(clip, normal, tmp_path, capsys):
    words = ("--clip", clip, "--classes", CLASSES)
    wish = ("--false_alarms_per_100_videos", 40, "--normal", normal, *LEVELS)
    made = ("--output", tmp_path / "calibration")
    street = ("--normal_words", "a street")
    assert done(calibrate, *words, *street, *wish, *made) == 0
    value = read_json(tmp_path / "calibration" / FILE)
    assert value["recordings"] == 6 and value["model"]["name"] == "zero_shot"
    assert value["model"]["classes"]["Fight"] == ["people fighting", "a brawl"]

    # The same words find what counts; other words have other scores.
    use = (normal, "--clip", clip, "--calibration", tmp_path / "calibration")
    given = ("--classes", CLASSES, "--normal", "a street")
    assert done(detect, *use, *given, "--output", tmp_path / "found") == 0
    videos = read_json(tmp_path / "found" / "events.json")["videos"]
    counted = sum(s > value["threshold"] for s in value["block_scores"])
    assert sum(bool(video["events"]) for video in videos) == counted

    given = ("--classes", "a flood", "--normal", "a street")
    message = refused(capsys, detect, *use, *given, "--output", tmp_path / "other")
    assert (
        "made with other class words: Fight is people fighting|a brawl, and no class"
        in message
    )
    given = ("--classes", CLASSES, "--normal", "a field")
    message = refused(capsys, detect, *use, *given, "--output", tmp_path / "other")
    assert "Normal is a street, and a field here; pass those of the" in message
    assert not (tmp_path / "other").exists()


def test_words_without_a_model_are_calibrated_for_live_sources(
    clip, normal, tmp_path, capsys
):
    words = ("--clip", clip, "--classes", CLASSES)
    wish = ("--false_alarms_per_day", 4000, "--block", 10, "--normal", normal)
    live = ("--live", "--high", 0.01, "--low", 0.01, "--min_length", 0)
    made = ("--normal_words", "a street", "--output", tmp_path / "calibration")
    assert done(calibrate, *words, *wish, *live, *made) == 0
    threshold = read_json(tmp_path / "calibration" / FILE)["threshold"]

    capsys.readouterr()
    use = ("--live", normal / "5.mp4", "--pace", 0, "--normal", "a street")
    use = (*words, *use, "--calibration", tmp_path / "calibration")
    assert done(detect, *use) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["threshold"] == round(threshold, 4)
    closed = [line for line in lines if line["type"] == "closed"]
    assert all(line["score"] > threshold - 1e-4 for line in closed)


def test_real_clips_of_avi_are_calibrated(clip, shared, tmp_path, capsys):
    folder = shared("videos/hockey/no_fight")
    clips = sorted(folder.glob("*.avi"))[:8]
    words = ("--clip", clip, "--classes", CLASSES, "--normal_words", "a street")
    wish = ("--false_alarms_per_100_videos", 40, "--normal", *clips, *LEVELS)
    made = ("--check_splits", 2, "--output", tmp_path / "calibration")
    assert done(calibrate, *words, *wish, *made) == 0
    assert "8 ordinary videos, " in capsys.readouterr().out
    value = read_json(tmp_path / "calibration" / FILE)
    assert len(value["block_scores"]) == 8 and 1 < value["longest_seconds"] < 2


def test_another_clip_model_is_refused(clip, normal, tmp_path, capsys):
    from sample_videos import write_clip

    words = ("--classes", CLASSES)
    wish = ("--false_alarms_per_100_videos", 40, "--normal", normal, *LEVELS)
    made = ("--normal_words", "a street", "--output", tmp_path / "calibration")
    assert done(calibrate, "--clip", clip, *words, *wish, *made) == 0
    other = write_clip(tmp_path / "clip", seed=1)
    use = (normal, "--clip", other, *words, "--normal", "a street")
    use = (*use, "--calibration", tmp_path / "calibration", "--output", tmp_path / "x")
    assert "made with another model" in refused(capsys, detect, *use)


def test_other_words_of_a_trained_model_are_part_of_its_calibration(
    tiny, normal, tmp_path, capsys
):
    model = write_model(tiny, "vadclip", tmp_path / "model", frame="middle")
    common = ("--checkpoint", model, "--clip", tiny.clip)
    wish = ("--false_alarms_per_100_videos", 40, "--normal", normal, *LEVELS)
    made = ("--classes", "a flood", "--output", tmp_path / "calibration")
    assert done(calibrate, *common, *wish, *made) == 0
    classes = read_calibration(tmp_path / "calibration").model["classes"]
    assert classes["a flood"] == ["a flood"]

    use = (normal, *common, "--calibration", tmp_path / "calibration")
    given = ("--classes", "a flood", "--output", tmp_path / "found")
    assert done(detect, *use, *given) == 0
    message = refused(capsys, detect, *use, "--output", tmp_path / "other")
    assert "made with other class words" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "pass --checkpoint DIR, a trained model"),
        (("--classes", "a fire"), "--classes requires --normal_words, the words"),
        (("--classes", "a fire", "--normal_words", "a street"), "requires --clip NAME"),
        (("--normal_words", "a street"), "pass --checkpoint DIR"),
        (
            ("--classes", "", "--normal_words", "a street", "--clip", "{clip}"),
            "error: ",
        ),
        (("--classes", "a fire", "--normal_words", "", "--clip", "{clip}"), "error: "),
        (("--classes", "a,a", "--normal_words", "b", "--clip", "{clip}"), "error: "),
        (("--classes", "a fire", "--normal_words", "a", "--clip", ""), "error: "),
        (("--classes", "a fire", "--normal_words", "a", "--clip", "{file}"), "error: "),
        (
            ("--classes", "火事", "--normal_words", "a fire", "--clip", "no/where"),
            "error: ",
        ),
    ],
)
def test_careless_words(clip, normal, tmp_path, capsys, words, message):
    places = {"clip": clip, "file": normal / "0.mp4"}
    words = [word.format(**places) for word in words]
    output = tmp_path / "calibration"
    found = refused(capsys, calibrate, "--normal", normal, *words, "--output", output)
    assert message in found
    assert not output.exists()
