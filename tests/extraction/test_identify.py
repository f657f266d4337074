"""`extract --identify` names the protocol of existing features of a real clip."""

import json
import random

import numpy as np
import pytest
from clip_fixtures import TEXT, VISION
from sample_videos import write_video

from wsvad_jax import extract
from wsvad_jax.clip.random_snapshot import write_random_snapshot
from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.extraction import identify, protocol_search
from wsvad_jax.extraction.picture_choices import (
    AVERAGES,
    COLOURS,
    NORMALISATIONS,
    SINGLE,
    PictureChoice,
)
from wsvad_jax.utils.errors import InputError

CLIPS = (
    "Fighting033_x264_570_841.mp4",
    "RoadAccidents133_x264_270_451.mp4",
    "demo.mp4",
    "test.avi",
)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """Two CLIP snapshots of one size, with other weights; by their folders."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / name for name in ("one", "two")]
    return [
        (str(path), load_snapshot(write_random_snapshot(path, text=TEXT, vision=VISION, seed=i)))
        for i, path in enumerate(paths)
    ]  # fmt: skip


def hidden(path, snapshot, choice, frame, stride):
    """Features of a protocol, which the search doesn't know, as float16."""
    return hidden_crops(path, snapshot, [choice], frame, stride)[0]


def hidden_crops(path, snapshot, choices, frame, stride):
    """The same of several choices, each alone."""
    num_frames = identify._count_frames(path)
    rows = np.arange(-(-num_frames // stride))
    frames = protocol_search.SnippetFrames(path, float(stride), rows, num_frames)
    search = protocol_search.ProtocolSearch("", snapshot, frames, lambda n: None)
    return [search._make(choice, frame).astype(np.float16) for choice in choices]


def is_it(protocol, name, choice, frame, stride):
    return (
        protocol.clip,
        protocol.picture,
        protocol.frame,
        protocol.stride,
    ) == (name, choice, frame, float(stride))


def test_the_flags_of_extract_are_named(
    shared, snapshots, tmp_path, monkeypatch, capsys
):
    video = shared("videos/RoadAccidents133_x264_270_451.mp4")
    name, _ = snapshots[0]
    output = tmp_path / "features"
    made = ["--frame", "first", "--resize", "clip", "--stride", "16"]
    extract.main(
        [str(video), "--clip", name, "--output", str(output), *made, "--quiet"]
    )
    capsys.readouterr()

    feature_file = str(next(output.glob("*.npy")))
    arguments = [str(video), "--clip", name, "--identify", feature_file]
    results, search = [], identify.identify

    def search_once(*args, **options):
        results.append(results[0] if results else search(*args, **options))
        return results[-1]

    monkeypatch.setattr(identify, "identify", search_once)
    assert extract.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Identified: 16 frames per snippet; frame 0" in printed
    assert "extract --frame first --resize clip --stride 16" in printed

    assert extract.main([*arguments, "--json"]) == 0
    assert len(results) == 2
    value = json.loads(capsys.readouterr().out)
    assert value["verdict"] == "same" and value["certain"]
    assert value["best"]["protocol"]["picture"]["geometry"] == "clip"


def test_a_file_of_ten_crops_is_read_crop_by_crop(shared, snapshots, tmp_path):
    video = shared("videos/RoadAccidents133_x264_270_451.mp4")
    name, snapshot = snapshots[1]
    order = [3, 0, 1, 2, 4, 5, 6, 7, 9, 8]
    choices = [PictureChoice(f"stretch {c}") for c in order]
    crops = hidden_crops(video, snapshot, choices, "8", 16)
    np.save(tmp_path / "a.npy", np.stack(crops, axis=1))  # [T, N, D]

    result = identify.identify(video, tmp_path / "a.npy", [(name, snapshot)])
    assert result.verdict == "same"
    assert result.crops == tuple(f"stretch {c}" for c in order)


def test_a_grey_video_identifies_no_colours(snapshots, tmp_path, capsys):
    """Red and blue are equal in it, so that RGB and BGR give the same features."""
    video, (name, snapshot) = write_video(tmp_path / "grey.mp4", 100), snapshots[0]
    features = hidden(video, snapshot, PictureChoice("stretch 0"), "8", 16)
    np.save(tmp_path / "a.npy", features)
    arguments = [str(video), "--clip", name, "--identify", str(tmp_path / "a.npy")]
    assert extract.main(arguments) == 0

    text = capsys.readouterr().out
    assert text.startswith("Not identified: two ways can't be distinguished")
    assert "One: 16 frames" in text and "The other: 16 frames" in text
    assert text.count("(agreement 1.0000, cosine 1.0000)") == 2
    assert "; RGB; " in text and "; BGR (" in text
    assert "Identified:" not in text and "extract --" not in text


@pytest.mark.parametrize(
    ("best", "other", "verdict"),
    [
        (0.99999, 0.999, "same"),
        (0.99999, 0.99998, "ambiguous"),
        (0.999, 0.9985, "ambiguous"),
        (0.98, 0.9, "likely"),
        (0.98, 0.97, "ambiguous"),
        (0.8, 0.8, "none"),
    ],
)
def test_the_verdict_depends_on_the_runner_up(best, other, verdict):
    protocol = protocol_search.Protocol("clip", PictureChoice("clip"), "8", 16.0)
    a, b = (protocol_search.Candidate(protocol, x, 1.0) for x in (best, other))
    assert identify._verdict(a, b) == verdict


def test_features_of_another_width_are_none_of_these(shared, snapshots, tmp_path):
    video = shared("videos/test.avi")
    np.save(tmp_path / "a.npy", np.random.RandomState(0).rand(11, 7))
    result = identify.identify(video, tmp_path / "a.npy", snapshots)
    assert (result.best, result.verdict) == (None, "none")
    assert "7 wide" in result.sentences()[0]


def test_features_of_another_encoder_are_none_of_these(shared, snapshots, tmp_path):
    video = shared("videos/test.avi")
    (_, foreign), (name, known) = snapshots
    features = hidden(video, foreign, PictureChoice("clip"), "0", 16)
    np.save(tmp_path / "a.npy", features)
    result = identify.identify(video, tmp_path / "a.npy", [(name, known)])
    assert result.verdict == "none"
    assert result.sentences()[0].startswith("None of these")


@pytest.mark.parametrize(
    ("num_frames", "num_snippets", "expected"),
    [
        (181, 12, [16.0]),
        (181, 11, [16.0]),  # the shorter last snippet was left out
        (181, 23, [8.0]),
        (271, 9, [32.0]),
        (181, 181, [1.0]),
        (181, 32, [181 / 32]),  # equal parts
        (100, 5, [17.0, 18.0, 19.0, 20.0]),
    ],
)
def test_strides_follow_from_the_lengths(num_frames, num_snippets, expected):
    assert identify.strides(num_frames, num_snippets) == expected


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((2, 48)), "2 snippets; --identify compares at least 3"),
        (np.ones((12, 48)), "all snippets are equal"),
        (np.ones(5), "expected"),
    ],
)
def test_features_that_say_nothing_are_refused(
    shared, snapshots, tmp_path, features, message
):
    np.save(tmp_path / "a.npy", features)
    with pytest.raises(InputError, match=message):
        identify.identify(shared("videos/test.avi"), tmp_path / "a.npy", snapshots)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "--identify", "x.npy", "--output", "o"], "--output has no effect"),
        (["a.mp4", "--identify", "x.npy", "--frame", "mean"], "--frame has no effect"),
        (["a.mp4", "b.mp4", "--identify", "x.npy"], "expected one video file"),
        ([".", "--identify", "x.npy"], "expected one video file"),
        (["a.mp4", "--identify", "x.npy"], "a.mp4: no such file"),
        (["a.mp4", "--identify", ""], "--identify is empty; expected a file"),
        (
            ["a.mp4", "--identify", "."],
            "is a folder; expected the feature file of a.mp4",
        ),
        (["a.mp4", "--clip", "other", "--output", "o"], "is the second CLIP model"),
    ],
)
def test_contradictions_are_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        extract.main([*arguments, "--clip", "c"])


@pytest.mark.slow
def test_hidden_protocols_are_recovered(shared, snapshots, tmp_path):
    """11 of 12 random protocols, as the search names them with all their parts."""
    # Seed 73 draws every video, stride and normalisation, both means, and inner frames.
    rng, right = random.Random(73), 0
    for _ in range(12):
        video = shared(f"videos/{rng.choice(CLIPS)}")
        name, snapshot = rng.choice(snapshots)
        choice = PictureChoice(
            rng.choice((*SINGLE, *AVERAGES)),
            rng.choice(COLOURS),
            rng.choice(list(NORMALISATIONS)),
        )
        stride = rng.choice([16, 16, 8, 32])
        frame = rng.choice(["0", str(stride // 2), "mean", str(rng.randrange(stride))])
        np.save(tmp_path / "a.npy", hidden(video, snapshot, choice, frame, stride))
        result = identify.identify(video, tmp_path / "a.npy", snapshots)
        assert result.best is not None
        right += is_it(result.best.protocol, name, choice, frame, stride)
    assert right >= 11


@pytest.mark.slow
def test_foreign_features_are_never_claimed(shared, snapshots, tmp_path):
    for seed in range(6):
        video = shared(f"videos/{CLIPS[seed % len(CLIPS)]}")
        path = tmp_path / f"foreign{seed}"
        write_random_snapshot(path, text=TEXT, vision=VISION, seed=100 + seed)
        choice = PictureChoice(SINGLE[seed])
        features = hidden(video, load_snapshot(path), choice, "8", 16)
        np.save(tmp_path / "a.npy", features)
        result = identify.identify(video, tmp_path / "a.npy", snapshots)
        assert result.verdict == "none", result
