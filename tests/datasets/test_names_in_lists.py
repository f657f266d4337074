"""Names in the lists of an own folder, and the files that they mean."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from sample_videos import write_video

from wsvad_jax import prepare
from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.datasets import custom, custom_videos
from wsvad_jax.datasets.validation import validate
from wsvad_jax.utils.errors import InputError

HANGUL = "정문"


def move(own, old, new):
    own.feature(new).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(own.feature(old), own.feature(new))


def train(own, old, new):
    """Lists a training video under another name."""
    rows = [(new if video == old else video, c) for video, c in own.rows["train"]]
    own.write_list("train", rows)


def problems(own):
    return "\n".join(validate.validate(own.path).problems.get("files", []))


def remarks(own):
    return "\n".join(validate.validate(own.path).remarks.get("files", []))


@pytest.mark.parametrize(
    ("listed", "file", "video"),
    [
        ("day\\f0.mp4", "day/f0", "day/f0"),
        ("./day\\f0.MKV ", "day/f0", "day/f0"),
        ("f0.npy", "f0", "f0"),
        (HANGUL, unicodedata.normalize("NFD", HANGUL), HANGUL),
        (unicodedata.normalize("NFD", HANGUL) + ".avi", HANGUL, HANGUL),
        ("day/f0", "day\\f0", "day/f0"),
    ],
)
def test_names_are_compared_in_one_form(own, listed, file, video):
    move(own, "f0", file)
    train(own, "f0", listed)
    found = custom.load(own.path)
    assert [v.video for v in found.splits["train"].videos][2] == video
    assert not problems(own) and "in no list" not in remarks(own)


@pytest.mark.parametrize("path", ["C:\\videos\\f0.mp4", "\\\\server\\f0.mp4", "..\\f0"])
def test_paths_of_elsewhere_are_refused(own, path):
    train(own, "f0", path)
    with pytest.raises(InputError, match="is a path out of the folder; expected the"):
        custom.load(own.path)


def test_truth_is_compared_in_one_form(own):
    move(own, "tf", HANGUL)
    own.write_list("test", [("tn", "Normal"), (HANGUL, "Fire"), ("tm", "Fight+Fire")])
    own.truth[1]["video"] = unicodedata.normalize("NFD", f"{HANGUL}.mp4")
    own.write_truth(own.truth)
    assert custom.load(own.path).splits["test"].videos[1].segments[0] == (16, 32, 2)


@pytest.mark.parametrize(
    ("listed", "file", "question"),
    [
        ("videos/f0.avi", "f0", "did you mean f0, without videos/?"),
        ("F0", "f0", "did you mean f0? upper and lower case differ"),
        ("f0", "day/f0", "did you mean day/f0? names have their folders"),
        ("f0x", "f0", "did you mean f0?"),
    ],
)
def test_a_name_that_nothing_has_is_asked_about(own, listed, file, question):
    move(own, "f0", file)
    train(own, "f0", listed)
    assert question in problems(own)
    with pytest.raises(InputError) as error:
        custom.load(own.path)
    assert question in str(error.value)


def test_truth_of_no_video_is_asked_about(own):
    own.truth[1]["video"] = "TF"
    own.write_truth(own.truth)
    with pytest.raises(
        InputError, match=r"TF is not in the test list.*did you mean tf"
    ):
        custom.load(own.path)


def test_what_is_not_read_is_remarked(own):
    own.feature("._f0").write_bytes(b"\0\5\26\7")
    (own.path / "features" / "f0.npz").touch()
    assert "1 file not read: .npz (1)" in remarks(own)
    assert "1 file not read: .npz (1)" in custom.load(own.path).remarks
    os.symlink("gone", own.feature("gone"))
    assert "gone.npy: links to gone, which is not there" in remarks(own)
    assert any("links to gone" in text for text in custom.load(own.path).remarks)
    train(own, "f0", "gone")  # now it matters
    assert "gone.npy: links to gone" in problems(own)
    with pytest.raises(InputError, match=r"gone\.npy: links to gone"):
        custom.load(own.path)
    skipped = ErrorCollector(skip=True)
    assert len(custom.load(own.path, skipped).splits["train"].videos) == 4
    assert "gone.npy: links to gone" in str(skipped.errors[0])


def test_a_name_that_leaves_no_room_for_a_sidecar(own):
    long = "x" * 251
    move(own, "f0", long)
    train(own, "f0", long)
    assert not problems(own)
    found = custom.load(own.path).splits["train"].videos
    assert found[2].video == long


def test_videos_outside_of_their_folder_are_said(own):
    shutil.rmtree(own.path / "features")
    for name in ("f0", "n0"):
        (own.path / f"{name}.mp4").touch()
    text = "no such folder, but 2 videos are beside the lists (f0.mp4); move the videos"
    assert text in problems(own) and problems(own).count("\n") == 0
    for flags in ([], ["--clip", "none"]):
        with pytest.raises(InputError, match="but 2 videos are beside the lists"):
            prepare.main([str(own.path), *flags])
    (own.path / "Videos").mkdir()
    for name in ("f0", "n0"):
        shutil.move(own.path / f"{name}.mp4", own.path / "Videos")
    assert "2 videos are elsewhere in it (Videos/f0.mp4)" in problems(own)
    own.feature("f1").parent.mkdir()
    own.write_features("f1", np.ones((4, 6), np.float32))  # others are missed by name
    assert "elsewhere" not in problems(own) and "video f0 is not in" in problems(own)


def test_a_file_with_two_endings(own):
    shutil.rmtree(own.path / "features")
    videos = own.path / "videos"
    videos.mkdir()
    for rows in own.rows.values():
        for video, _ in rows:
            write_video(videos / f"{video}.mp4", 20)
    shutil.move(videos / "f0.mp4", videos / "f0.mp4.mp4")
    for listed in ("f0", "f0.mp4", "f0.mp4.mp4"):
        train(own, "f0", listed)
        assert not problems(own) and "in no list" not in remarks(own)
    train(own, "f0", "f0.mp4")
    write_video(videos / "f0.avi.mp4", 21)
    assert "there is f0.mp4.mp4 as well; keep one file of video f0" in problems(own)
    write_video(videos / "f0.mp4", 22)  # the name itself comes first
    found = custom_videos.feature_status(own.path, own.path / "features", ["f0"])
    assert found.video_paths == {"f0": videos / "f0.mp4"} and not found.errors


@pytest.mark.parametrize(
    ("file", "listed"),
    [("a.264", "a"), ("a.264", "a.264"), ("a.mp4.mp4", "a.mp4"), ("a.b.dav", "a.b")],
)
def test_videos_find_the_features_made_of_them(own, clip, file, listed):
    (own.path / "videos").mkdir()
    shutil.rmtree(own.path / "features")
    for video in [v for rows in own.rows.values() for v, _ in rows]:
        write_video(own.path / "videos" / f"{video}.mp4", 64)
    video_file = own.path / "videos" / "f0.mp4"
    video_file.rename(video_file.with_name(file))
    train(own, "f0", listed)
    for _ in range(2):
        data = str(own.path.parent / "data")
        command = [str(own.path), "--clip", str(clip), "--data_dir", data]
        assert prepare.main(command) == 0
    made = {p.name for p in (own.path / "features").glob("*.npy")}
    assert len(made) == 8 and any(name.startswith("a.") for name in made)


def test_composed_and_decomposed_names_are_one(own):
    for form in ("NFC", "NFD"):
        path = own.path / "videos" / f"{unicodedata.normalize(form, HANGUL)}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(form.encode())
    found = custom_videos.feature_status(own.path, own.path / "features", [HANGUL])
    assert "keep one file of video" in str(found.errors[HANGUL])


def test_a_folder_may_be_linked_under_two_names(own):
    os.rename(own.path / "features", own.path / "all")
    (own.path / "features").mkdir()
    for split, rows in own.rows.items():
        os.symlink("../all", own.path / "features" / split)
        own.write_list(split, [(f"{split}/{video}", c) for video, c in rows])
    (own.path / "test_segments.json").unlink()
    assert len(custom.load(own.path).splits["test"].videos) == 3
    assert not problems(own) and "in no list" not in remarks(own)


def test_a_video_that_cannot_be_read_is_one_problem(own, monkeypatch):
    """Its features are there, and whether they are of it isn't known."""
    from wsvad_jax.data import sidecar

    made = sidecar.Sidecar("f0.mp4", "a@b", "c", 16, "middle", 1, "stretch", 8, 16.0, 64,
                           (0.0, 1.0, 2.0, 3.0), 4.0, source={"size": 3, "hash": "x"})  # fmt: skip
    made.write(own.feature("f0").with_suffix(".json"))
    (own.path / "videos").mkdir()
    (own.path / "videos" / "f0.mp4").write_bytes(b"abc")

    def shut(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sidecar, "fingerprint", shut)
    assert "f0.mp4: can't be read (Permission denied)" in problems(own)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_lists_of_windows_tools(own, encoding):
    move(own, "f0", HANGUL)
    train(own, "f0", HANGUL)
    for name in ("train.csv", "test_segments.json"):
        text = (own.path / name).read_text(encoding="utf-8")
        (own.path / name).write_text(text, encoding=encoding)
    assert custom.load(own.path).splits["train"].videos[2].video == HANGUL
    text = (own.path / "train.csv").read_text(encoding=encoding)
    (own.path / "train.csv").write_text(text, encoding="cp949")
    with pytest.raises(InputError, match=r"train\.csv: expected a text file in UTF-8"):
        custom.load(own.path)


def test_what_is_beside_the_videos_is_remarked(own, capsys):
    (own.path / "videos" / "day").mkdir(parents=True)
    for name in ("a.rar", "day/b.MP4.crdownload", "desktop.ini", "day/._c.mp4"):
        (own.path / "videos" / name).touch()
    (own.path / "videos" / os.fsdecode(b"caf\xe9.mp4")).touch()
    assert prepare.main([str(own.path), "--check"]) in (0, 2)
    assert "in no list, so not used: caf\\udce9" in capsys.readouterr().out
    assert "2 files not read: .crdownload (1), .rar (1)" in remarks(own)
    skipped = ErrorCollector(skip=True)
    custom_videos.extract_missing(
        own.path, own.path / "features", custom_videos.ExtractionOptions(), skipped
    )
    assert "2 files not read: " in capsys.readouterr().err
