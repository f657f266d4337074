"""Names in one form, what files are called, and what a wrong name may mean."""

import unicodedata

import pytest

from wsvad_jax.data import video_names
from wsvad_jax.datasets import split_lists
from wsvad_jax.extraction import extract_files

HANGUL = "정문/카메라"
APART = unicodedata.normalize("NFD", HANGUL)


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("day\\a.MP4", "day/a"),
        ("./day//a.mkv ", "day/a"),
        ("a .mp4", "a"),
        ("a.npy", "a"),
        ("a.b", "a.b"),
        ("a.mp4.mp4", "a.mp4"),
        ("cam.264", "cam.264"),
        (f"{APART}.avi", HANGUL),
        (".mp4", ".mp4"),
    ],
)
def test_a_video_s_name(name, video):
    assert video_names.video_id(name) == video
    assert video_names.video_id(unicodedata.normalize("NFD", name)) == video


def test_programs_share_one_list_of_endings():
    assert set(extract_files.SUFFIXES) == split_lists.EXTENSIONS
    for ending in (".dav", ".h264", ".264", ".mxf", ".gif", ".m2v", ".mp4"):
        assert ending in split_lists.EXTENSIONS


def test_files_are_called_by_their_names_first():
    paths = ["a.mp4", "a.mp4.mp4", "b.mp4.mp4", "c.mp4.mp4", "c.avi.mp4", "d.264"]
    found = video_names.index_by_name((path, path) for path in paths)
    assert found["a"] == ["a.mp4"] and found["a.mp4"] == ["a.mp4.mp4"]
    assert found["b"] == found["b.mp4"] == ["b.mp4.mp4"]
    assert found["c"] == ["c.mp4.mp4", "c.avi.mp4"]  # either could be meant
    assert found["d"] == found["d.264"] == ["d.264"]


def test_a_number_is_no_ending():
    frames = [f"cam.{i}.mp4" for i in range(263, 267)]
    found = video_names.index_by_name((path, path) for path in frames)
    for i in range(263, 267):
        assert found[video_names.video_id(f"cam.{i}")] == [f"cam.{i}.mp4"]
    named = extract_files.name_videos(["x/cam.264", "x/cam.265", "x/a.mp4"])
    assert list(named) == ["cam.264", "cam.265", "a"]


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("videos/day/one", "did you mean day/one, without videos/?"),
        ("DAY/ONE", "did you mean day/one? upper and lower case differ"),
        ("one", "did you mean day/one or night/one? names have their folders"),
        ("late/two", "did you mean night/two? names have their folders"),
        ("crops", "did you mean day/crops? names have their folders"),
        ("night/thre", "did you mean night/three?"),
        ("quite_another", ""),
    ],
)
def test_a_wrong_name_is_asked_about(name, question):
    there = ["day/one", "night/one", "night/two", "night/three", "day/crops__0"]
    assert video_names.Hints(there, ["videos"])(name) == question


def test_a_long_list_of_wrong_names_takes_no_hours():
    hints = video_names.Hints([f"video_{i}" for i in range(1000)])
    asked = [hints(f"vidoe_{i}") for i in range(video_names.SIMILAR + 5)]
    assert all(asked[: video_names.SIMILAR]) and not any(asked[video_names.SIMILAR :])
