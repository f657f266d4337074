"""A trained model that detects with other class words than those of its training."""

import numpy as np
import pytest
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.detection import run
from wsvad_jax.detection.detector import Detector
from wsvad_jax.experiment.other_words import WARNING
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return write_model(tiny, "vadclip", tmp_path_factory.mktemp("model") / "vadclip")


def test_other_words_change_the_classes_alone(model):
    own = Detector(model)
    prompts = {c.name: c.prompts for c in own.card.classes[1:]}
    same = Detector(model, classes=prompts)
    other = Detector(model, classes="thick smoke,a brawl|a fight", normal="a street")
    x = np.random.RandomState(0).standard_normal((20, own.width)).astype(np.float16)
    scores = [detector.score(x) for detector in (own, same, other)]

    np.testing.assert_array_equal(scores[0].classes, scores[1].classes)
    for changed in scores[1:]:
        np.testing.assert_array_equal(scores[0].anomaly, changed.anomaly)
    assert np.abs(scores[0].classes - scores[2].classes).max() > 1e-3
    assert other.class_names == ("Normal", "thick smoke", "a brawl")
    assert other.card.prompts[0] == ("a street",)
    assert other.description()["words"] == "thick smoke,a brawl|a fight"
    assert "words" not in own.description()


def test_the_program_says_that_the_words_are_others(model, tmp_path, capsys):
    np.save(tmp_path / "v.npy", np.zeros((20, 32), np.float16))
    command = [str(tmp_path / "v.npy"), "--checkpoint", str(model), "--high", "1e-6"]
    words = ["--classes", "thick smoke,a brawl", "--output", str(tmp_path / "out")]
    assert detect.main([*command, *words]) == 0
    assert f"note: {WARNING}" in capsys.readouterr().err
    found = read_json(tmp_path / "out" / "events.json")
    assert found["settings"]["words"] == "thick smoke,a brawl"
    names = {e["class"] for v in found["videos"] for e in v["events"]}
    assert names and names <= {"thick smoke", "a brawl"}

    assert detect.main([*command, "--output", str(tmp_path / "plain")]) == 0
    assert WARNING not in capsys.readouterr().err


def test_words_that_are_refused(tiny, model, tmp_path):
    with pytest.raises(InputError, match="duplicate class 'Normal'"):
        Detector(model, classes="Normal=a street,a fire")
    with pytest.raises(InputError, match="--normal requires --classes"):
        run.check_options(run.DetectorOptions(str(model), normal="a street"))
    with pytest.raises(InputError, match="--classes names no class"):
        Detector(model, normal="a street")
    folder = write_model(tiny, "mil_ranking", tmp_path / "mil")
    with pytest.raises(InputError, match="mil_ranking reads no class words"):
        Detector(folder, classes="a fire")
