"""Files with names and kinds that trouble one of many: the others are worked on."""

import json
import os
import re
import shutil
import unicodedata

import numpy as np
import pytest
from sample_videos import write_video
from untrained import write_model

from wsvad_jax import detect, extract
from wsvad_jax.extraction import extract_files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles
from wsvad_jax.utils.files import read_json

HANGUL = "정문 카메라"


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return write_model(tiny, "mil_ranking", tmp_path_factory.mktemp("model") / "m")


def feature(path, width=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.RandomState(0).standard_normal((20, width)))


def run_detect(model, *arguments):
    return detect.main([str(a) for a in (*arguments, "--checkpoint", model)])


def test_extraction_leaves_out_what_it_cannot_name(tmp_path, clip, capsys):
    folder, out = tmp_path / "v", tmp_path / "out"
    folder.mkdir()
    original = write_video(folder / "a.mp4", 20)
    longest, most = "가" * 82 + "x.mp4", "y" * 251 + ".mp4"  # 251 and 255 bytes
    for name in (longest, most, "protocol.mp4", "z.dav", "-a.mp4", "=a #%.mp4"):
        shutil.copy(original, folder / name)
    os.mkfifo(folder / "pipe.mp4")
    os.symlink("gone.mp4", folder / "link.mp4")
    (folder / "b.mp4.part").touch()
    (folder / "._a.mp4").touch()
    command = [str(folder), "--clip", str(clip), "--output", str(out)]
    assert extract.main(command) == 3
    err = capsys.readouterr().err
    assert "1 file not read: .part (1)" in err
    left = [line for line in err.splitlines() if line.startswith("left out: ")]
    assert len(left) == 4
    for name, why in (
        ("pipe.mp4", "it is a pipe, a socket or a device"),
        ("link.mp4", "links to gone.mp4, which is not there"),
        ("protocol.mp4", "its sidecar would be protocol.json; rename the video"),
        (most, "its features can't be written (File name too long)"),
    ):
        assert any(f"{folder}/{name}: " in line and why in line for line in left)
    made = {p.name.removesuffix(".npy") for p in out.glob("*.npy")}
    assert made == {"a", longest.removesuffix(".mp4"), "z", "-a", "=a #%"}
    assert not list(out.glob(".*"))
    assert extract.main(command) == 3  # again: nothing is left to be made
    assert "0 extracted, 5 already there" in capsys.readouterr().out


def test_one_place_concerns_one_video_and_a_full_disk_all(tmp_path, clip, monkeypatch):
    for name in ("a", "day/b", "c"):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "v" / f"{name}.mp4", 20)
    out = tmp_path / "out"
    out.mkdir()
    (out / "day").touch()
    command = [str(tmp_path / "v"), "--clip", str(clip), "--output", str(out)]
    assert extract.main(command) == 3
    assert {p.name for p in out.glob("*.npy")} == {"a.npy", "c.npy"}
    assert (out / "day").read_bytes() == b""

    def full(path, array):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(np, "save", full)
    command[-1] += "2"
    with pytest.raises(OSError, match="No space left"):
        extract.main(command)


def test_detection_leaves_out_what_it_cannot_read(model, tmp_path, capsys):
    folder, out = tmp_path / "f", tmp_path / "out"
    for name in ("a", "n" * 251):  # no sidecar can have the second name
        feature(folder / f"{name}.npy")
    feature(folder / "wide.npy", 33)
    (folder / "._a.npy").write_bytes(b"\0\5\26\7")
    (folder / "b.npz").touch()
    os.symlink("gone.npy", folder / "c.npy")
    assert run_detect(model, folder, "--output", out) == 3
    err = capsys.readouterr().err
    assert "1 file not read: .npz (1)" in err
    skipped = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 2
    assert f"{folder}/c.npy: links to gone.npy" in skipped[0]
    assert f"{folder}/wide.npy: features of 20 snippets, 33 wide" in skipped[1]
    videos = read_json(out / "events.json")["videos"]
    assert [v["video"] for v in videos] == ["a", "n" * 251]


def test_a_picture_that_cannot_be_named_is_missed_alone(
    model, tmp_path, capsys, monkeypatch
):
    from wsvad_jax.detection import plots

    feature(tmp_path / "f" / "a.npy")
    feature(tmp_path / "f" / "b.npy")
    (tmp_path / "out" / "pictures" / "a.png").mkdir(parents=True)
    assert run_detect(model, tmp_path / "f", "--output", tmp_path / "out") == 3
    assert "skipped: no picture of a: Is a directory" in capsys.readouterr().err
    assert (tmp_path / "out" / "pictures" / "b.png").is_file()
    assert (tmp_path / "out" / "report.html").is_file()

    def full(path, one):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(plots, "write_picture", full)
    with pytest.raises(OSError, match="No space left"):
        run_detect(model, tmp_path / "f", "--output", tmp_path / "out")


def test_a_pipe_is_not_waited_for(model, tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="a.mp4: a stream, not a file; pass it as"):
        run_detect(model, tmp_path / "a.mp4", "--output", tmp_path / "out")
    # Among files it is left out.
    feature(tmp_path / "b.npy")
    both = tmp_path / "a.mp4", tmp_path / "b.npy"
    assert run_detect(model, *both, "--output", tmp_path / "out") == 3
    with pytest.raises(
        InputError, match="a.mp4: expected a file or a folder, but it is"
    ):
        extract_files.find_videos([tmp_path / "a.mp4"])
    with pytest.raises(InputError, match=r"holds no video files .*\(.*it is a pipe"):
        extract_files.find_videos([tmp_path])


def test_what_a_shell_names_by_a_pattern(model, tmp_path, capsys):
    """One link to nothing among the files of v/* is left out; a typing error isn't."""
    feature(tmp_path / "a.npy")
    os.symlink("gone.npy", tmp_path / "b.npy")
    both = tmp_path / "a.npy", tmp_path / "b.npy"
    assert run_detect(model, *both, "--output", tmp_path / "out") == 3
    said = (
        "skipped: .*b.npy: expected a file or a folder, but it links to a missing file"
    )
    assert re.search(said, capsys.readouterr().err)
    with pytest.raises(InputError, match="b.npy: expected a file or a folder, but"):
        run_detect(model, both[1], "--output", tmp_path / "out")
    with pytest.raises(InputError, match="c.npy: no such file or folder"):
        run_detect(model, *both, tmp_path / "c.npy", "--output", tmp_path / "out")
    write_video(tmp_path / "a.mp4", 2)
    os.mkfifo(tmp_path / "b.mp4")
    passed = SkippedFiles()
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    assert extract_files.find_videos(paths, passed) == paths[:1]
    assert "b.mp4: expected a file or a folder, but it is a pipe" in str(passed.errors)


def write_truth(path, *entries):
    truth = [{"video": name, "segments": [[0, 100]]} for name in entries]
    path.write_text(json.dumps(truth, ensure_ascii=False), encoding="utf-8-sig")


def test_truth_is_found_by_any_form_of_the_name(model, tmp_path, capsys):
    folder, out = tmp_path / "f", tmp_path / "out"
    apart = unicodedata.normalize("NFD", HANGUL)
    for name in (apart, "day/b", "night/c", "d"):
        feature(folder / f"{name}.npy")
    truth = tmp_path / "t.json"
    write_truth(truth, f"{HANGUL}.mp4", "day\\b.avi", "c", "old/d", "e")
    assert run_detect(model, folder, "--output", out, "--truth", truth) == 0
    err = capsys.readouterr().err
    assert "ground truth without a video: old/d, e" in err
    assert "videos without ground truth: d" in err
    videos = {v["video"]: v["truth"] for v in read_json(out / "events.json")["videos"]}
    assert videos[apart] and videos["day/b"] and videos["night/c"]
    assert videos["d"] is None


def test_truth_that_fits_two_videos_is_refused(model, tmp_path):
    folder, truth = tmp_path / "f", tmp_path / "t.json"
    for name in ("day/a", "night/a"):
        feature(folder / f"{name}.npy")
    command = model, folder, "--output", tmp_path / "out", "--truth", truth
    write_truth(truth, "a")
    with pytest.raises(
        InputError, match=r"video a may be .*day/a.npy or .*night/a.npy"
    ):
        run_detect(*command)
    write_truth(truth, "day/a", "day\\a.mp4")
    with pytest.raises(InputError, match=r"day/a and day\\a.mp4 are both video"):
        run_detect(*command)


def test_names_of_any_script_are_drawn_without_warnings(model, tmp_path, recwarn):
    for name in (HANGUL, "影像_かな", "ሰላም 👨", "Ünïcode"):
        feature(tmp_path / "f" / f"{name}.npy")
    assert run_detect(model, tmp_path / "f", "--output", tmp_path / "out") == 0
    assert len(list((tmp_path / "out" / "pictures").glob("*.png"))) == 4
    assert not [w for w in recwarn if "missing from" in str(w.message)]
