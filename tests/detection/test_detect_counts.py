"""Rules of detection out of their range, and what its progress counts."""

import numpy as np
import pytest
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.detect import Detector
from wsvad_jax.detection import rule_flags
from wsvad_jax.evaluation.event_rules import EventRules, with_old_names
from wsvad_jax.utils.errors import InputError


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return write_model(tiny, "mil_ranking", tmp_path_factory.mktemp("model") / "m")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"high": 70.0}, "high is 70.0; expected more than 0, up to 1"),
        ({"high": float("nan")}, "high is nan; expected"),
        ({"low": 0.6}, "low 0.6 is above (--)?high 0.5"),
        ({"min_prominence": 0.0}, "min_prominence is 0.0; expected"),
        ({"rel_height": 1.5}, "rel_height is 1.5; expected 0 to 1"),
        ({"max_gap": -1.0}, "max_gap is -1.0; expected seconds"),
    ],
)
def test_rules_out_of_range_are_refused_in_python_too(rules, message):
    with pytest.raises(InputError, match=message):
        EventRules(**rules)
    with pytest.raises(InputError, match=f"--{message}"):
        EventRules.from_options(rules, prefix="--")


def test_rules_of_former_releases_are_taken_with_a_warning():
    with pytest.warns(FutureWarning, match="rise is now min_prominence"):
        rules = EventRules.from_options({"rise": 0.3, "high": 0.9})
    assert rules == EventRules(high=0.9, min_prominence=0.3)
    with pytest.raises(InputError, match="hihg: no such event rule; expected high"):
        EventRules.from_options({"hihg": 0.3})
    with pytest.raises(InputError, match="high: found beside EventRules"):
        EventRules.from_rules_or_options(rules, {"high": 0.4})


def test_share_was_measured_upwards():
    message = "share is now rel_height.* 1 - share, here 0.3"
    with pytest.warns(FutureWarning, match=message):
        rules = EventRules.from_options({"share": 0.7})
    assert rules == EventRules(rel_height=0.3)
    with pytest.raises(InputError, match="share is 2; expected more than 0, up to 1"):
        EventRules.from_options({"share": 2})
    with pytest.raises(InputError, match="rel_height: found by its former name, too"):
        EventRules.from_options({"rel_height": 0.3, "share": 0.7})


def test_flags_of_rules_have_former_names(capsys):
    def rules(*words):
        arguments = detect.parser()
        known = arguments.parse_args(["v.mp4", "--checkpoint", "m", *words])
        return rule_flags.rules_of(known, arguments.seen)

    assert rules() == EventRules() == rules("--rel_height", ".4")
    assert not capsys.readouterr().err
    assert rules("--share", ".7", "--rise", ".2") == EventRules(
        rel_height=0.3, min_prominence=0.2
    )
    rise, share = capsys.readouterr().err.splitlines()
    assert rise == "warning: --rise is now --min_prominence"
    assert share.startswith("warning: --share is now --rel_height") and "0.3" in share
    with pytest.raises(InputError, match="--share is 0.0; expected more than 0"):
        rules("--share", "0")
    with pytest.raises(InputError, match="--share, --rel_height: pass --rel_height"):
        rules("--share", ".7", "--rel_height", ".3")


def test_files_hold_rules_by_both_names():
    written = with_old_names(EventRules(rel_height=0.3).as_dict())
    assert (written["rel_height"], written["share"]) == (0.3, 0.7)
    assert written["rise"] == written["min_prominence"]
    assert with_old_names({"checkpoint": "m"}) == {"checkpoint": "m"}


def test_a_detector_refuses_them(model):
    detector = Detector(model)
    features = np.zeros((4, detector.width))
    with pytest.raises(InputError, match="high is 70.0"):
        detector.detect(features, np.arange(5.0), "lobby", high=70.0)


def test_progress_counts_the_events_of_all_videos(tiny, model, tmp_path, capsys):
    features = str(tiny.root / "own" / "features")
    options = "--low", "0.0001", "--high", "0.0001", "--min_length", "0"
    where = "--checkpoint", str(model), "--output", str(tmp_path / "out")
    assert detect.main([features, *where, *options]) == 0
    said = capsys.readouterr()
    count = int(said.out.split()[0])
    assert count > 1 and f"events {count}\n" in said.err
