"""From videos or features to events: Detector and the program, on tiny models."""

import csv
import dataclasses
import doctest
import json
import pathlib
import shutil

import numpy as np
import pytest
from sample_videos import VISION, write_clip, write_sound, write_video
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.clip.random_snapshot import write_random_snapshot
from wsvad_jax.clip.towers import TextConfig
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.detect import Detector
from wsvad_jax.evaluation import windows
from wsvad_jax.utils import program
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.weights import trained_model

D = 32


@dataclasses.dataclass
class World:
    """Trained models whose prepared dataset is gone."""

    workdirs: dict[str, pathlib.Path]
    clip: pathlib.Path  # the text tower and image tower
    features: pathlib.Path  # VIDEO.npy without sidecars
    truth: pathlib.Path


@pytest.fixture(scope="module")
def world(tiny, finished, finished_mil, tmp_path_factory):
    runs, workdirs = tmp_path_factory.mktemp("gone"), {}
    for trained in (finished, finished_mil):
        workdir = workdirs[trained.name] = shutil.copytree(trained, runs / trained.name)
        # The copy names a dataset that isn't there.
        for path in (workdir / "config.json", workdir / "model/meta.json"):
            text = path.read_text()
            assert str(tiny.path) in text
            path.write_text(text.replace(str(tiny.path), str(runs / "data/own")))
    own = tiny.root / "own"
    return World(workdirs, tiny.clip, own / "features", own / "test_segments.json")


@pytest.fixture(scope="module")
def detectors(world):
    return {model: Detector(path) for model, path in world.workdirs.items()}


@pytest.fixture
def mil(world, tmp_path):
    """A copy of the MIL ranking model that a test may change, without classes."""
    path = tmp_path / "mil"
    return shutil.copytree(world.workdirs["mil_ranking"] / "model", path)


def change(model: pathlib.Path, **meta) -> pathlib.Path:
    """Changes keys of a model's meta.json."""
    write_json(model / "meta.json", read_json(model / "meta.json") | meta)
    return model


def run(*arguments) -> int:
    return detect.main([str(a) for a in arguments])


def refused(capsys, *arguments) -> str:
    """What the program says about arguments that it refuses, in one line."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: run(*arguments))
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("error: ") == 1
    return err[err.index("error: ") :].strip()


@pytest.mark.parametrize("model", ["dsanet", "mil_ranking"])
def test_scores_are_those_of_evaluate_with_the_dataset_gone(world, detectors, model):
    with np.load(world.workdirs[model] / "scores.npz") as wanted:
        for i in range(6):
            features = np.load(world.features / f"test{i}.npy")
            found = detectors[model].score(features)
            for name, value in found.items():
                np.testing.assert_allclose(
                    value, wanted[f"test{i}/{name}"], atol=1e-5, err_msg=f"{i} {name}"
                )
            assert ("classes" in found) == (model == "dsanet")


def test_windows_are_scored_each_on_its_own(detectors):
    one = detectors["dsanet"]
    x = np.random.RandomState(0).standard_normal((11, 1, one.T, D))
    length = np.full(11, one.T)
    length[3] = 5
    together = one.score_windows(x, length)
    assert together["classes"].shape == (11, one.T, 3)
    for i in (0, 3, 10):
        alone = one.score_windows(x[i : i + 1], length[i : i + 1])
        valid = slice(length[i])
        np.testing.assert_allclose(
            together["anomaly"][i, valid], alone["anomaly"][0, valid], atol=1e-5
        )


def test_the_documented_example(world):
    finder = doctest.DocTestFinder(recurse=False)
    names = {"folder": world.workdirs["mil_ranking"], "np": np, "Detector": Detector}
    (example,) = finder.find(Detector, "Detector", extraglobs=names)
    assert len(example.examples) >= 6
    assert doctest.DocTestRunner().run(example).failed == 0


def test_features_that_cannot_be_scored(detectors):
    one = detectors["mil_ranking"]
    for shape in ((0, D), (5, D + 1), (D,), (1, 1, 5, D)):
        with pytest.raises(InputError, match=r"expected \[T, 32\] or \[N, T, 32\]"):
            one.score(np.zeros(shape, np.float32))
    with pytest.raises(InputError, match="not finite"):
        one.score(np.full((5, D), 1e6, np.float32))
    with pytest.raises(InputError, match="lobby: 5 snippets need 6 edges"):
        one.detect(np.zeros((5, D), np.float16), np.arange(5.0), "lobby")


def test_long_videos_are_scored_in_parts(detectors, monkeypatch):
    monkeypatch.setattr(windows, "MAX_WHOLE_LENGTH", 32)
    x = np.random.RandomState(0).standard_normal((70, D)).astype(np.float16)
    one = detectors["mil_ranking"]
    found = one.score(x)["anomaly"]
    parts = [one.score(x[i : i + 32])["anomaly"] for i in (0, 32, 64)]
    np.testing.assert_allclose(found, np.concatenate(parts), atol=1e-6)


@pytest.mark.parametrize("model", ["dsanet", "mil_ranking"])
@pytest.mark.parametrize("n", [1, 50, 150])
def test_nothing_of_a_still_video_stands_out(detectors, model, n):
    one = detectors[model]
    x = np.random.RandomState(0).standard_normal((2, 1, D)).astype(np.float16)
    found = one.score(np.repeat(x, n, 1))
    for name in found.as_dict().keys() - {"classes"}:
        assert np.ptp(found[name]) < 1e-3, name


def test_the_published_scoring_keeps_the_place(tiny, tmp_path):
    model = write_model(tiny, "dsanet", tmp_path / "model")
    config = read_json(model / "meta.json")["config"]
    config["clean"]["remove_position_bias"] = False
    still, plain = np.ones((50, D), np.float16), Detector(change(model, config=config))
    assert np.ptp(np.log(plain.score(still)["anomaly"])) > 1
    edges = np.arange(51.0)
    assert plain.detect(still, edges, "v", high=1.0, min_prominence=1e-3).events == ()


def test_features_become_a_page_tables_and_pictures(world, tmp_path, capsys):
    output = tmp_path / "out"
    model = world.workdirs["dsanet"]
    names = [f"test{i}" for i in range(4)]
    inputs = [world.features / f"{name}.npy" for name in names]
    assert run(*inputs, "--checkpoint", model, "--output", output, "--fps", 8,
               "--truth", world.truth, "--high", 0.2, "--rise", 0.05) == 0  # fmt: skip
    value = read_json(output / "events.json")
    assert [v["video"] for v in value["videos"]] == names
    assert value["settings"]["frames a second"] == 8
    assert value["settings"]["high"] == 0.2 and "low" not in value["settings"]
    with np.load(model / "scores.npz") as scores:
        for v in value["videos"]:
            anomaly = scores[f"{v['video']}/anomaly"]
            np.testing.assert_allclose(v["anomaly"], anomaly, atol=1e-4)
            assert v["seconds"] == [2.0 * t for t in range(len(anomaly) + 1)]
            assert v["duration"] == 2.0 * len(anomaly)
    truth = {t["video"]: t for t in read_json(world.truth)}
    assert value["videos"][0]["truth"] == []
    (known,) = value["videos"][1]["truth"]
    start, end = truth["test1"]["segments"][0]
    assert known == {"start": start / 8, "end": end / 8, "class": "Fire"}
    with open(output / "events.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    listed = [(v["video"], e) for v in value["videos"] for e in v["events"]]
    assert listed and len(rows) == len(listed)
    for row, (video, event) in zip(rows, listed, strict=True):
        assert row["video"] == video and row["class"] == event["class"]
        assert float(row["start"]) == event["start"]
        assert float(row["score"]) == event["score"]
    pictures = sorted(p.name for p in (output / "pictures").iterdir())
    assert pictures == [f"{name}.png" for name in names]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in names)
    assert "events in 4 videos" in capsys.readouterr().out


def sidecar_for(path: pathlib.Path, T: int, encoder: str = "clip@aaaaaaaaaaaa", **more):
    side = Sidecar(
        video=f"{path.stem}.mp4", encoder=encoder, weights_hash="a" * 64, stride=16,
        frame="middle", crops=1, resize="stretch", image_size=16, fps=16.0,
        num_frames=16 * T, seconds=tuple(0.9 * t for t in range(T)), duration=0.9 * T,
        **more,
    )  # fmt: skip
    side.write(path.with_suffix(".json"))


def test_times_and_damage_come_from_the_sidecar(world, mil, tmp_path):
    folder = tmp_path / "features"
    (folder / "day").mkdir(parents=True)
    x = np.load(world.features / "test1.npy")
    np.save(folder / "day" / "a.npy", x[None])
    sidecar_for(folder / "day" / "a.npy", len(x), damage="cut short")
    assert run(folder, "--checkpoint", mil, "--output", tmp_path / "out") == 0
    (video,) = read_json(tmp_path / "out" / "events.json")["videos"]
    assert video["video"] == "day/a" and video["damage"] == "cut short"
    assert video["seconds"][1] == 0.9 and len(video["seconds"]) == len(x) + 1
    assert (tmp_path / "out" / "pictures" / "day" / "a.png").is_file()


def test_features_of_another_encoder_are_refused(world, mil, tmp_path, capsys):
    change(mil, features={"encoder": "mine@aaaaaaaaaaaa", "stride": 16})
    x = np.load(world.features / "test1.npy")
    np.save(tmp_path / "a.npy", x)
    arguments = (tmp_path / "a.npy", "--checkpoint", mil, "--output", tmp_path / "out")
    sidecar_for(tmp_path / "a.npy", len(x))  # the same weights under another name
    assert run(*arguments) == 0
    sidecar_for(tmp_path / "a.npy", len(x), "mine@bbbbbbbbbbbb")
    shutil.rmtree(tmp_path / "out")
    line = refused(capsys, *arguments)
    assert not (tmp_path / "out").exists()
    assert "a.npy: features of mine@bbbbbbbbbbbb" in line
    assert "trained on features of mine@aaaaaaaaaaaa" in line and "--force" in line
    assert run(*arguments, "--force") == 0
    settings = read_json(tmp_path / "out" / "events.json")["settings"]
    assert "another" in settings["force"]


def test_what_cannot_be_read_is_left_out(world, mil, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    data = (world.features / "test1.npy").read_bytes()
    (folder / "cut.npy").write_bytes(data[: len(data) // 2])
    (folder / "whole.npy").write_bytes(data)
    assert run(folder, "--checkpoint", mil, "--output", tmp_path / "out") == 3
    err = capsys.readouterr().err
    assert "skipped:" in err and "cut.npy: the file is truncated" in err
    assert "30 frames per second are assumed (--fps)" in err
    (video,) = read_json(tmp_path / "out" / "events.json")["videos"]
    assert video["video"] == "whole"
    (folder / "whole.npy").unlink()
    other = tmp_path / "other"
    assert run(folder, "--checkpoint", mil, "--output", other) == 3
    assert not other.exists()


def test_videos_of_any_name_and_state(world, mil, tmp_path, capsys):
    """Quotes, HTML, umlauts; cut short, one frame, sound alone, no video."""
    from wsvad_jax.clip.snapshot import load_snapshot

    snapshot = load_snapshot(world.clip)
    encoder = f"{snapshot.name}@{snapshot.weights_hash[:12]}"
    change(mil, features={"encoder": encoder, "stride": 16, "crops": 1,
                          "frame": "mean", "resize": "clip"})  # fmt: skip
    folder = tmp_path / "videos"
    folder.mkdir()
    odd = "a \"b\" <script>alert('x')<¦script> ä ☃ & 100%"
    write_video(folder / f"{odd}.mp4", 40)
    write_video(folder / "one.mp4", 1)
    write_video(folder / "cut.mp4", 60)
    data = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: int(0.7 * len(data))])
    write_sound(folder / "sound.mp4")
    (folder / "text.mp4").write_text("not a video")
    output = tmp_path / "out"
    code = run(folder, "--checkpoint", mil, "--clip", world.clip, "--output", output)
    assert code == 3
    err = capsys.readouterr().err
    assert "sound.mp4: has no video stream" in err and "text.mp4: can't be read" in err
    videos = {v["video"]: v for v in read_json(output / "events.json")["videos"]}
    assert set(videos) == {odd, "one", "cut"}
    assert len(videos[odd]["anomaly"]) == 3 and videos[odd]["duration"] == 2.5
    assert videos[odd]["seconds"] == [0, 1, 2, 2.5]
    assert len(videos["one"]["anomaly"]) == 1 and not videos["one"]["damage"]
    assert videos["cut"]["damage"] and "cut: damaged" in err
    assert 1 <= len(videos["cut"]["anomaly"]) < 4
    assert "<script>alert" not in (output / "report.html").read_text(encoding="utf-8")

    one = Detector(mil, clip=str(world.clip))
    answer = one(folder / f"{odd}.mp4", high=0.99, min_prominence=1.0)
    assert answer.path == folder / f"{odd}.mp4" and answer.class_names[0] == "Normal"
    np.testing.assert_allclose(answer.anomaly, videos[odd]["anomaly"], atol=1e-4)
    found = one.extractor(folder / f"{odd}.mp4")
    assert (one.extractor.frame, one.extractor.resize) == ("mean", "clip")
    np.testing.assert_array_equal(one.score(found.features)["anomaly"], answer.anomaly)


def test_videos_need_the_image_tower_of_the_training(world, mil, tmp_path, capsys):
    video = write_video(tmp_path / "a.mp4", 20)
    arguments = (video, "--checkpoint", mil, "--output", tmp_path / "out")
    assert "pass --clip NAME|DIR" in refused(capsys, *arguments)
    change(mil, features={"encoder": "mine@bbbbbbbbbbbb", "stride": 16, "crops": 1})
    line = refused(capsys, *arguments, "--clip", world.clip)
    assert "trained on features of mine@bbbbbbbbbbbb" in line
    assert run(*arguments, "--clip", world.clip, "--force") == 0
    assert "stretch is assumed (--resize)" in capsys.readouterr().err


def test_the_text_tower_is_the_training_s(world, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(world.workdirs["dsanet"] / "model", model)
    meta = read_json(model / "meta.json")
    assert meta["tower"]["clip"] == str(world.clip) and meta["length"] % 8 == 0
    other = write_clip(tmp_path / "other")
    assert Detector(model, clip=str(other)).T == meta["length"]  # its own is there
    change(model, tower={"clip": "/nowhere/clip", "hash": meta["tower"]["hash"]})
    with pytest.raises(InputError, match="/nowhere/clip, which is not here; pass --cl"):
        Detector(model)
    with pytest.raises(InputError, match="holds the weights .* or --force"):
        Detector(model, clip=str(other))
    assert Detector(model, clip=str(other), force=True).T == meta["length"]
    wide = TextConfig(514, 48, 64, 1, 2, 77, D, eos_token_id=513)
    write_random_snapshot(
        tmp_path / "wide",
        text=wide,
        vision=dataclasses.replace(VISION, projection_dim=D),
        seed=0,
    )
    with pytest.raises(InputError, match="the recipe asks for"):
        Detector(model, clip=str(tmp_path / "wide"), force=True)
    assert Detector(model, clip=str(world.clip)).width == D
    shutil.copytree(world.clip, model / "clip")  # as a converted model has it
    assert Detector(model).width == D


def test_the_random_text_tower_is_made_again(world, own_cache):
    meta = {"model": "dsanet", "config": {"clip": "auto"}, "card": {"clip": ""}}
    folder = world.workdirs["dsanet"] / "model"
    first = trained_model.text_snapshot(folder, meta, D)
    meta["tower"] = {"clip": "random", "hash": first.weights_hash}
    again = trained_model.text_snapshot(folder, meta, D)
    assert again.weights_hash == first.weights_hash
    assert first.text.projection_dim == D


def test_a_folder_without_sizes_or_card(world, mil):
    meta = read_json(mil / "meta.json")
    older = {k: v for k, v in meta.items() if k not in ("length", "width", "tower")}
    write_json(mil / "meta.json", older)
    assert Detector(mil).width == D
    change(mil, card=None)
    with pytest.raises(InputError, match="names no classes"):
        Detector(mil)


def test_encoders_are_compared_by_their_weights():
    same = trained_model.same_encoder
    assert same("a@123", "b@123") and not same("a@123", "a@456")
    assert same("unknown", "a@1") and same("a@1", "") and same("r3d", "r3d")
    assert not same("r3d", "clip@123") and same("clip", "clip@123")


def test_inputs_that_are_refused(world, mil, tmp_path, capsys):
    ready = ("--checkpoint", mil, "--output", tmp_path / "out")
    video = world.features / "test1.npy"
    assert "no such file" in refused(capsys, tmp_path / "none.mp4", *ready)
    assert "holds no video" in refused(capsys, tmp_path, *ready)
    copy = tmp_path / "copy" / "test1.npy"
    copy.parent.mkdir()
    shutil.copy(video, copy)
    assert "both named test1" in refused(capsys, video, copy, *ready)
    assert "test1.npy: found twice" in refused(capsys, video, video, *ready)
    (file := tmp_path / "file").touch()
    line = refused(capsys, video, "--checkpoint", mil, "--output", file / "out")
    assert "can't be written" in line
    assert "no model here" in refused(
        capsys, video, "--checkpoint", tmp_path, "--output", tmp_path / "out"
    )
    assert "--fps is 0" in refused(capsys, video, *ready, "--fps", 0)
    assert "--high is 2.0" in refused(capsys, video, *ready, "--high", 2)
    assert "above --high" in refused(capsys, video, *ready, "--low", 0.8)
    assert "--min_length is -1.0" in refused(capsys, video, *ready, "--min_length=-1")
    assert not (tmp_path / "out").exists()
    for arguments in ((), (video,)):
        with pytest.raises(SystemExit) as e:
            run(*arguments, "--checkpoint", mil)
        assert e.value.code == 2


def test_events_json_is_json_with_no_nan(world, mil, tmp_path):
    output = tmp_path / "out"
    video = world.features / "test3.npy"
    assert run(video, "--checkpoint", mil, "--output", output,
               "--truth", world.truth) == 0  # fmt: skip

    def never(name):
        raise AssertionError(name)

    json.loads((output / "events.json").read_text(), parse_constant=never)
