"""Detection by words alone, on small videos and a small CLIP with random weights."""

import io
import json

import numpy as np
import pytest
from sample_videos import write_clip, write_video

from wsvad_jax import detect, extract
from wsvad_jax.clip.prompts import text_inputs
from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.detection import live
from wsvad_jax.detection.detector import Detector
from wsvad_jax.models import zero_shot
from wsvad_jax.utils import program
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

WORDS = {"classes": "Fight=people fighting|a brawl,a fire", "normal": "a street"}
FLAGS = ("--classes", WORDS["classes"], "--normal", WORDS["normal"])


@pytest.fixture(scope="module")
def detector(clip):
    return Detector.zero_shot(clip, **WORDS, temperature=0.01, progress=False)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "lobby.mp4", 16 * 6 + 5)


def refused(capsys, *arguments) -> str:
    """What the program says about arguments that it refuses, in one line."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: detect.main([str(a) for a in arguments]))
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("error: ") == 1
    return err[err.index("error: ") :].strip()


def test_an_event_has_the_class_that_its_features_show(detector):
    text = text_inputs(detector.snapshot, detector.card.prompts)
    classes = np.asarray(zero_shot.Model(temperature=1.0).encode_text({}, text))
    labels = np.zeros(30, int)
    labels[5:12], labels[20:26] = 1, 2
    features = (8 * classes[labels]).astype(np.float16)
    scores = detector.score(features)
    assert scores.anomaly.dtype == np.float32
    assert (scores.classes.argmax(-1) == labels).all()

    result = detector.detect(features, np.arange(31.0), "lobby", high=0.3)
    assert [e.category for e in result.events] == ["Fight", "a fire"]
    assert [(e.start, e.end) for e in result.events] == [(5, 12), (20, 26)]
    assert repr(detector).endswith("zero_shot not trained)")


def test_a_video_gets_a_report(clip, video, tmp_path, capsys):
    out = tmp_path / "found"
    arguments = [str(video), "--clip", str(clip), *FLAGS, "--output", str(out)]
    assert detect.main([*arguments, "--high", "0.01"]) == 0
    assert "report.html" in capsys.readouterr().out
    settings = read_json(out / "events.json")["settings"]
    assert settings["words"] == WORDS["classes"] and settings["normal"] == "a street"
    assert settings["model"] == "zero_shot" and settings["clip"] == str(clip)
    assert settings["temperature"] == pytest.approx(0.07, rel=1e-3)
    assert "checkpoint" not in settings and "trained on" not in settings
    page = (out / "report.html").read_text()
    assert "Detected by zero_shot" in page and "trained on" not in page
    assert (out / "pictures" / "lobby.png").exists()


@pytest.mark.parametrize("frame", ["middle", "mean"])
def test_features_of_the_same_clip_model_are_taken(clip, video, tmp_path, frame):
    features = tmp_path / "features"
    flags = ["--clip", str(clip), "--output", str(features), "--frame", frame]
    assert extract.main([str(video), *flags, "--resize", "clip"]) == 0
    out = ["--output", str(tmp_path / "found")]
    assert detect.main([str(features), "--clip", str(clip), *FLAGS, *out]) == 0
    (found,) = read_json(tmp_path / "found" / "events.json")["videos"]
    assert len(found["anomaly"]) == 7


def test_features_of_another_clip_model_are_refused(clip, video, tmp_path, capsys):
    other, features = write_clip(tmp_path / "other", seed=1), tmp_path / "features"
    assert extract.main([str(video), f"--clip={other}", f"--output={features}"]) == 0
    out = ("--output", tmp_path / "found")
    line = refused(capsys, features, "--clip", clip, *FLAGS, *out)
    assert "features of other@" in line
    assert "pass the CLIP model of the features as --clip" in line
    assert not (tmp_path / "found").exists()


def test_features_of_unknown_origin_are_said_to_be_assumed(clip, tmp_path, capsys):
    width = load_snapshot(clip).vision.projection_dim
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.ones((4, width), np.float16))
    out = tmp_path / "found"
    flags = ["--clip", str(clip), *FLAGS, "--output", str(out)]
    assert detect.main([str(tmp_path), *flags]) == 0
    message = "a.npy doesn't say which CLIP model made its features: "
    assert capsys.readouterr().err.count(message) == 1
    settings = read_json(out / "events.json")["settings"]
    assert settings["features"].endswith(" (assumed)")


def test_live_scores_are_those_of_the_recorded_video(detector, video):
    out = io.StringIO()
    live.run(detector, str(video), pace=0.0, out=out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[0]["words"] == WORDS["classes"] and lines[0]["classes"][1] == "Fight"
    assert "depends on its snippet alone" in lines[0]["causal"]
    live_scores = [line["anomaly"] for line in lines if line["type"] == "snippet"]
    np.testing.assert_allclose(live_scores, detector(video).anomaly, atol=0.02)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((), "pass --checkpoint DIR, a trained model; or, without one, --classes"),
        (FLAGS, "--classes requires --clip NAME|DIR"),
        (("--clip", "x", *FLAGS[:2]), "--classes requires --normal"),
        (("--clip", "", *FLAGS), "the name of the CLIP model is empty"),
        (("--clip", "x", *FLAGS[2:]), "pass --checkpoint DIR, a trained model; or"),
        (("--checkpoint", "m", *FLAGS[2:]), "--normal requires --classes"),
        (("--clip", "x", *FLAGS, "--force"), "without --checkpoint there is none"),
        (("--clip", "a/b/c", *FLAGS), "a/b/c: no such folder"),
        (
            ("--clip", "x", "--classes", "a,a|b", "--normal", "b"),
            "every class needs words of its own",
        ),
    ],
)
def test_flags_that_name_no_model(video, tmp_path, capsys, flags, text):
    out = ("--output", tmp_path / "found")
    assert text in refused(capsys, video, *flags, *out)
    assert not (tmp_path / "found").exists()


def test_fields_of_the_model_are_checked(clip):
    for fields, text in (
        ({"temperature": -1.0}, "temperature is -1.0; expected a number in"),
        ({"warmth": 1.0}, "config.model.warmth: zero_shot has no such field"),
    ):
        with pytest.raises(InputError, match=text):
            Detector.zero_shot(clip, **WORDS, **fields)
