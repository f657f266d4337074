"""The program: videos to files that are whole or absent, and what is bad input."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from sample_videos import VISION, write_clip, write_sound, write_video

from wsvad_jax import extract
from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.data import sidecar
from wsvad_jax.datasets.custom import read_protocol
from wsvad_jax.extraction import extract_files
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.utils.errors import InputError

# Many runs compile the same program.
ODD = """it's "x" <b>&amp; ü 影 a.b"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with folders in it; tests only read it."""
    path = tmp_path_factory.mktemp("videos")
    (path / "fights").mkdir()
    write_video(path / "one.mp4", 20)
    write_video(path / "fights" / "one.mkv", 33)
    write_video(path / f"{ODD}.mp4", 17)
    write_video(path / ".hidden.mp4", 3)
    (path / "notes.txt").write_text("no video")
    return path


NAMES = {"one", "fights/one", ODD}


def run(*arguments):
    return extract.main([str(a) for a in arguments])


def named(folder, ending=".npy"):
    return {
        p.relative_to(folder).as_posix().removesuffix(ending)
        for p in folder.rglob(f"[!.]*{ending}")
    }


def times(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_folder_gives_features_and_sidecars(tmp_path, videos, clip, capsys):
    out = tmp_path / "out"
    assert run(videos, "--clip", clip, "--output", out, "--crops", 5) == 0
    assert named(out) == NAMES
    assert named(out, ".json") == NAMES | {"protocol"}
    snapshot = load_snapshot(clip)
    for name, frames in (("one", 20), ("fights/one", 33), (ODD, 17)):
        features = np.load(out / f"{name}.npy")
        T = -(-frames // 16)
        assert features.dtype == np.float16
        assert features.shape == (5, T, VISION.projection_dim)
        side = sidecar.read(out / f"{name}.json")
        assert (side.num_frames, len(side.seconds), side.damage) == (frames, T, "")
        assert side.encoder == f"small@{snapshot.weights_hash[:12]}"
        assert side.weights_hash == snapshot.weights_hash
        assert (side.stride, side.frame, side.crops) == (16, "middle", 5)
        assert (side.resize, side.image_size) == ("stretch", 32)
        assert side.duration == pytest.approx(frames / 16, abs=0.1)
        protocol, where = read_protocol(out / "protocol.json")
        assert protocol == side.protocol and where == str(clip)
    said = capsys.readouterr().out
    assert re.search(r"3 extracted, 0 already there; 70 frames in .* x real time", said)


def test_one_file_a_crop(tmp_path, videos, clip):
    shape = ("--crops", 10, "--frame", "mean")
    run(videos / "one.mp4", "--clip", clip, "--output", tmp_path / "a", *shape)
    run(videos / "one.mp4", "--clip", clip, "--output", tmp_path / "b", *shape,
        "--layout", "crops")  # fmt: skip
    whole = np.load(tmp_path / "a" / "one.npy")
    assert named(tmp_path / "b") == {f"one__{n}" for n in range(10)}
    for n in range(10):
        part = tmp_path / "b" / f"one__{n}.npy"
        np.testing.assert_array_equal(np.load(part), whole[n])
        assert sidecar.sidecar_path(part) == tmp_path / "b" / "one.json"
    assert sidecar.read(tmp_path / "b" / "one.json").crops == 10


def test_shards_are_the_whole(tmp_path, videos, clip):
    parts = []
    for i in range(2):
        run(videos, "--clip", clip, "--output", tmp_path / "both", "--shard", f"{i}/2")
        run(videos, "--clip", clip, "--output", tmp_path / str(i), "--shard", f"{i}/2")
        parts.append(named(tmp_path / str(i)))
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == named(tmp_path / "both") == NAMES


def test_again_does_nothing_and_what_is_not_whole_is_made(
    tmp_path, videos, clip, capsys
):
    run(videos, "--clip", clip, "--output", tmp_path)
    before, one = times(tmp_path), np.load(tmp_path / "one.npy")
    run(videos, "--clip", clip, "--output", tmp_path)
    assert times(tmp_path) == before
    assert "0 extracted, 3 already there" in capsys.readouterr().out
    (tmp_path / "one.json").unlink()  # as if it had been killed between the two files
    (tmp_path / "fights" / "one.npy").write_bytes(b"half")
    (tmp_path / ".one-abcd_123.npy").write_bytes(b"half")
    (tmp_path / "fights" / ".one-abcd1234.json").write_bytes(b"half")
    mine = tmp_path / ".other-abcd1234.npy"
    mine.touch()
    run(videos, "--clip", clip, "--output", tmp_path)
    assert "2 extracted, 1 already there" in capsys.readouterr().out
    mine.unlink()
    after = times(tmp_path)
    assert after.keys() == before.keys()
    assert after[tmp_path / f"{ODD}.npy"] == before[tmp_path / f"{ODD}.npy"]
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), one, rtol=1e-3, atol=1e-3)


def test_a_video_that_was_replaced_is_extracted_again(tmp_path, clip, capsys):
    video, out = tmp_path / "a.mp4", tmp_path / "out"
    run(write_video(video, 20), "--clip", clip, "--output", out)
    run(write_video(video, 40), "--clip", clip, "--output", out)
    assert np.load(out / "a.npy").shape[1] == 3
    moved = tmp_path / "b" / "a.mp4"
    moved.parent.mkdir()
    moved.write_bytes(video.read_bytes())
    run(moved, "--clip", clip, "--output", out)
    assert "0 extracted, 1 already there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--stride", "8"], "stride 16 there and 8 now"),
        (["--frame", "mean"], "frame middle there and mean now"),
        (["--resize", "clip"], "resize stretch there and clip now"),
        (["--layout", "crops"], "layout one there and crops now"),
        (["--crops", "5"], "crops 1 there and 5 now"),
        (["--dtype", "bfloat16"], "dtype float32 there and bfloat16 now"),
    ],
)
def test_one_folder_holds_one_kind(tmp_path, videos, clip, change, message):
    command = [videos / "one.mp4", "--clip", clip, "--output", tmp_path]
    run(*command)
    before = times(tmp_path)
    with pytest.raises(InputError, match=message):
        run(*command, *change)
    assert times(tmp_path) == before


def test_another_encoder_s_folder_is_refused(tmp_path, videos, clip):
    run(videos / "one.mp4", "--clip", clip, "--output", tmp_path / "out")
    other = write_clip(tmp_path / "small", seed=1)
    with pytest.raises(InputError, match="weights_hash .* there and .* now"):
        run(videos, "--clip", other, "--output", tmp_path / "out")


def test_the_same_weights_used_otherwise_are_another_encoder(tmp_path, videos, clip):
    out = tmp_path / "out"
    run(videos / "one.mp4", "--clip", clip, "--output", out)
    gelu = shutil.copytree(clip, tmp_path / "gelu")
    config = json.loads((gelu / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "gelu"
    (gelu / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="activation gelu instead of quick_gelu"):
        run(videos, "--clip", gelu, "--output", out)
    # A folder of an older version noted the weights alone.
    protocol = json.loads((out / "protocol.json").read_text())
    del protocol["encoder_settings"]
    (out / "protocol.json").write_text(json.dumps(protocol))
    with pytest.raises(
        InputError, match="there and .* now, the same weights, the first"
    ):
        run(videos, "--clip", gelu, "--output", out)
    run(videos / "one.mp4", "--clip", clip, "--output", out)


def test_the_same_weights_under_another_name_are_the_same_encoder(
    tmp_path, videos, clip, capsys
):
    out = tmp_path / "out"
    run(videos / "one.mp4", "--clip", clip, "--output", out)
    run(videos, "--clip", write_clip(tmp_path / "renamed"), "--output", out)
    assert "2 extracted, 1 already there" in capsys.readouterr().out
    encoders = {json.loads(p.read_text())["encoder"] for p in out.rglob("*.json")}
    assert len(encoders) == 1 and encoders.pop().startswith("small@")


def test_features_of_unknown_origin_are_not_written_over(tmp_path, videos, clip):
    np.save(tmp_path / "one.npy", np.ones((3, 4), np.float32))
    with pytest.raises(InputError, match="one.npy: already exists"):
        run(videos, "--clip", clip, "--output", tmp_path)
    assert np.load(tmp_path / "one.npy").shape == (3, 4)


def test_bad_videos_are_named_and_the_rest_is_made(tmp_path, clip, capsys):
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    write_sound(folder / "sound.mp4")
    (folder / "text.mp4").write_text("not a video\n" * 50)
    (folder / "empty.mp4").touch()
    write_video(folder / "no_frames.mp4", 0)
    write_video(folder / "single.mp4", 1)
    cut = write_video(folder / "cut.mp4", 60).read_bytes()
    (folder / "cut.mp4").write_bytes(cut[: len(cut) * 3 // 4])
    assert run(folder, "--clip", clip, "--output", out) == 3
    assert named(out) == {"single", "cut"}
    said = capsys.readouterr()
    assert "2 extracted (1 of them damaged), 0 already there, 4 unreadable" in said.out
    for name in ("sound", "text", "empty", "no_frames"):
        assert f"left out: {folder / name}.mp4: " in said.err
    assert "warning: cut: damaged" in said.err
    assert "of 60 frames can be read" in sidecar.read(out / "cut.json").damage
    assert np.load(out / "single.npy").shape[:2] == (1, 1)


def test_two_videos_of_one_name(tmp_path, clip):
    for path in ("a.mp4", "a.mkv"):
        write_video(tmp_path / path, 2)
    with pytest.raises(InputError, match=r"a\.mkv and .*a\.mp4 would both be a\.npy"):
        run(tmp_path, "--clip", clip, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # One file by two ways is one video.
    found = extract_files.find_videos([tmp_path / "a.mp4", tmp_path])
    assert [p.name for p in found] == ["a.mp4", "a.mkv"]


def test_names_keep_the_folders_below_the_one_given(tmp_path):
    paths = [
        tmp_path / "x" / "a.mp4",
        tmp_path / "x" / "y" / "a.mp4",
        tmp_path / "b.avi",
    ]
    named = extract_files.name_videos(paths, [tmp_path / "x"])
    assert list(named) == ["a", "y/a", "b"]


def test_no_output(tmp_path, videos, clip):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/out: can't be written"):
        run(videos, "--clip", clip, "--output", tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path, videos, clip):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="can't be written"):
        run(videos, "--clip", clip, "--output", tmp_path)


def test_no_videos(tmp_path, clip):
    for path, message in (
        (tmp_path, "holds no video files"),
        (tmp_path / "none.mp4", "no such file or folder"),
    ):
        with pytest.raises(InputError, match=message):
            run(path, "--clip", clip, "--output", tmp_path / "out")


def test_arguments_that_do_not_fit(tmp_path, videos, clip, capsys):
    command = [videos, "--clip", clip, "--output", tmp_path / "out"]
    for more in (
        ["--shard", "2/2"], ["--shard", "x"], ["--crops", "3"], ["--project", "p"]
    ):  # fmt: skip
        with pytest.raises(SystemExit) as e:
            run(*command, *more)
        assert e.value.code == 2
    assert "expected i/n" in capsys.readouterr().err
    for more, message in (
        (["--clip", tmp_path], "is the second CLIP model"),
        (["--crops", 5, "--resize", "clip"], "requires crops=1"),
        (["--stride", 0], "stride must be at least 1"),
        (["--compare", "nothing.npy"], "nothing.npy: no such file"),
        (["--compare", clip / "config.json"], "is one file, but there are 3 videos"),
    ):
        with pytest.raises(InputError, match=message):
            run(*command, *more)
    with pytest.raises(InputError, match="config.json"):
        run(videos, "--clip", tmp_path, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(find_spec("apache_beam") is not None, reason="Beam is installed")
def test_a_runner_without_beam(tmp_path, videos, clip):
    with pytest.raises(InputError, match="DirectRunner: Apache Beam is not installed"):
        run(videos, "--clip", clip, "--output", tmp_path, "--runner=DirectRunner")


KILLED = """
import os, signal, sys
import numpy as np
from wsvad_jax import extract

save, calls = np.save, []

def save_or_die(path, array):
    calls.append(path)
    if len(calls) == 3:
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, array)

np.save = save_or_die
extract.main(sys.argv[1:])
"""


def test_a_killed_process_leaves_only_whole_files(tmp_path, clip):
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    for i in range(5):
        write_video(folder / f"v{i}.mp4", 20)
    arguments = [str(folder), "--clip", str(clip), "--output", str(out)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        cwd=pathlib.Path(__file__).parent.parent,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert named(out) == {"v0", "v1"}
    assert named(out, ".json") == {"v0", "v1", "protocol"}
    assert [p for p in out.iterdir() if p.name.startswith(".")]
    (out / ".v3-abcd_123.npy").touch()  # as earlier versions called what they left
    others = {out / ".w3-abcd_123.npy", out / ".v3-notes-of-mine.json"}
    for path in others:
        path.touch()
    before = times(out)
    videos = extract_files.find_videos([folder])
    summary = extract_files.extract_files(videos, out, Extractor(load_snapshot(clip)))
    assert (summary.skipped, summary.done) == (["v0", "v1"], ["v2", "v3", "v4"])
    after = times(out)
    assert all(after[out / f"v{i}.npy"] == before[out / f"v{i}.npy"] for i in (0, 1))
    assert {p for p in out.iterdir() if p.name.startswith(".")} == others
    assert all(np.load(out / f"v{i}.npy").shape == (1, 2, 16) for i in range(5))


def compared(capsys, *arguments):
    run(*arguments)
    return capsys.readouterr().out


def test_comparison_with_other_features(tmp_path, videos, clip, capsys):
    video, theirs = videos / "fights" / "one.mkv", tmp_path / "theirs"
    command = [video, "--clip", clip, "--output", tmp_path / "ours"]
    run(*command)
    run(video, "--clip", clip, "--output", theirs, "--crops", 10, "--layout", "crops")
    run(video, "--clip", clip, "--output", tmp_path / "fine", "--stride", 4)
    ours = np.load(tmp_path / "ours" / "one.npy")[0]
    np.save(tmp_path / "plain.npy", ours[:2].astype(np.float32))
    np.save(tmp_path / "wide.npy", np.ones((3, 5), np.float32))
    np.save(tmp_path / "tnd.npy", np.repeat(ours[:, None], 5, 1))
    capsys.readouterr()
    for other, *expected in (
        (theirs, "Both have 3 snippets", "1 here, 10 there", "their crop 0",
         "the same features"),
        (tmp_path / "plain.npy", "the 1 at the end of the longer", "mean 1.0000"),
        (tmp_path / "tnd.npy", "Both have 3 snippets", "1 here, 5 there"),
        (tmp_path / "wide.npy", "16 wide, theirs 5: made by another encoder"),
        (tmp_path / "fine" / "one.npy", "theirs are probably of 4 or 5 frames, ours are of 16"),
        (tmp_path, "nothing to compare with"),
    ):  # fmt: skip
        said = compared(capsys, *command, "--compare", other)
        for words in expected:
            assert words in said, (other, said)


def test_a_comparison_of_unlike_features_says_so(tmp_path, videos, clip, capsys):
    random = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    np.save(tmp_path / "random.npy", random)
    said = compared(capsys, videos / "fights" / "one.mkv", "--clip", clip, "--output",
                    tmp_path / "out", "--compare", tmp_path / "random.npy")  # fmt: skip
    assert "little in common" in said and "(snippet " in said


def test_real_videos(tmp_path, clip, shared, capsys):
    folder = shared("videos")
    files = [folder / n for n in ("test.avi", "Fighting033_x264_570_841.mp4")]
    assert run(*files, "--clip", clip, "--output", tmp_path) == 0
    frames = {"test": 164, "Fighting033_x264_570_841": 271}
    for name, count in frames.items():
        side = json.loads((tmp_path / f"{name}.json").read_text())
        assert side["num_frames"] == count and side["damage"] == ""
        assert np.load(tmp_path / f"{name}.npy").shape[1] == -(-count // 16)
