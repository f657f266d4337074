"""Ways of making features, compared: what differs is named, what isn't known fits."""

import dataclasses

import pytest

from wsvad_jax.data import feature_protocols
from wsvad_jax.data.records import FeatureProtocol

OPENAI = {
    "weights": "aaaaaaaaaaaabbbb",
    "activation": "quick_gelu",
    "mean": [0.48, 0.46, 0.41],
    "unlike_openai": [],
}
GELU = OPENAI | {"activation": "gelu", "unlike_openai": ["activation"]}
HALF = OPENAI | {"mean": [0.5, 0.5, 0.5], "unlike_openai": ["mean"]}
OTHER = "encoder clip@cccccccccccc instead of clip@aaaaaaaaaaaa"
PLAIN = FeatureProtocol("clip@aaaaaaaaaaaa", 16, 10, "middle", "stretch", OPENAI)


def changed(**changes) -> FeatureProtocol:
    return dataclasses.replace(PLAIN, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"encoder": "renamed@aaaaaaaaaaaa"}, ""),
        ({"frame": "mean"}, "frame mean instead of middle"),
        ({"resize": "clip"}, "resize clip instead of stretch"),
        ({"stride": 8}, "stride 8 instead of 16"),
        ({"crops": 5}, "crops 5 instead of 10"),
        ({"frame": "mean", "stride": 8}, "frame mean instead of middle; stride 8 instead of 16"),
        ({"frame": "unknown", "resize": "unknown", "stride": 0, "crops": 0}, ""),
        ({"encoder": "unknown", "encoder_settings": {}}, ""),
        ({"encoder": "r3d", "encoder_settings": {}}, "encoder r3d instead of clip@aaaaaaaaaaaa"),
        ({"encoder": "clip@cccccccccccc", "encoder_settings": GELU},
         f"{OTHER} (activation gelu instead of quick_gelu)"),
        ({"encoder": "clip@cccccccccccc", "encoder_settings": HALF},
         f"{OTHER} (mean 0.5 0.5 0.5 instead of 0.48 0.46 0.41)"),
        ({"encoder_settings": OPENAI | {"random": True}}, ""),
    ],
)  # fmt: skip
def test_a_difference_is_named(changes, words):
    assert feature_protocols.difference(changed(**changes), PLAIN) == words


def test_older_versions_noted_the_weights_alone():
    older = changed(encoder_settings={})
    assert not feature_protocols.difference(older, PLAIN)
    assert not feature_protocols.difference(PLAIN, older)
    assert not feature_protocols.difference(older, older)
    new = changed(encoder="clip@cccccccccccc", encoder_settings=GELU)
    said = feature_protocols.difference(new, older)
    assert (
        "the same weights, the first with activation gelu; the second was stored"
        in said
    )
    assert "the second with activation gelu" in feature_protocols.difference(older, new)
    assert "the same weights" not in feature_protocols.difference(
        changed(encoder="clip@dddddddddddd", encoder_settings={}), new
    )


def test_of_windows_one_crop_counts():
    assert not feature_protocols.difference(changed(crops=1), PLAIN, crop=0)
    assert not feature_protocols.difference(changed(crops=10), changed(crops=1), crop=0)
    said = feature_protocols.difference(changed(crops=5), PLAIN, crop=5)
    assert said == "crops 5, without number 5 that is scored"
    assert not feature_protocols.difference(changed(crops=0), PLAIN, crop=5)


def test_what_json_leaves_out_is_unknown():
    found = feature_protocols.protocol_from_json(
        {"encoder": "a", "stride": "16", "frame": None, "more": 1}
    )
    assert found == FeatureProtocol("a", 0, 0)
    assert feature_protocols.protocol_from_json(None) == FeatureProtocol(
        stride=0, crops=0
    )


def test_random_towers_are_said():
    random = OPENAI | {"random": True}
    note = feature_protocols.clip_note(changed(encoder_settings=random))
    assert "CLIP model of the features (clip@aaaaaaaaaaaa): random weights" in note
    both = feature_protocols.clip_note(
        changed(encoder_settings=random), {"clip": "x", "settings": random}
    )
    assert "features and prompts" in both
    text = feature_protocols.clip_note(PLAIN, {"clip": "random"})
    assert "text tower of the prompts: random weights" in text
    assert not feature_protocols.clip_note(PLAIN, {"clip": "x", "settings": OPENAI})
    assert not feature_protocols.clip_note(PLAIN, None)
    # The demo's, and a cached one, as older versions noted them.
    for encoder in ("clip@9a76bf077ca9", "random-32@0123456789ab"):
        assert feature_protocols.clip_note(FeatureProtocol(encoder))
