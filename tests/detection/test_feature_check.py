"""Features and videos of another kind than a model's training: refused, or said."""

import json
import shutil

import numpy as np
import pytest
from sample_videos import write_video
from untrained import write_model

from wsvad_jax import detect, evaluate
from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.detection import export, inputs
from wsvad_jax.detection.detector import Detector
from wsvad_jax.detection.feature_check import FeatureCheck
from wsvad_jax.parallel.precision import resolve_dtype
from wsvad_jax.utils import program
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.weights.trained_model import open_trained_model

D = 32
FRAMES = 40


@pytest.fixture(scope="module")
def protocol(tiny):
    """How the tiny CLIP's features are made by default."""
    from wsvad_jax.extraction.extractor import Extractor

    return Extractor(load_snapshot(tiny.clip)).protocol.__dict__


@pytest.fixture(scope="module")
def models(tiny, protocol, tmp_path_factory):
    """Folders of untrained models whose features are known."""
    root = tmp_path_factory.mktemp("models")
    names = ("mil_ranking", "vadclip")
    return {m: write_model(tiny, m, root / m, **protocol) for m in names}


@pytest.fixture
def features(protocol, tmp_path):
    """Writes features of one video with a sidecar; returns their file."""

    def write(crops=1, name="a", **changes):
        x = np.random.RandomState(0).standard_normal((crops, 3, D)).astype(np.float16)
        np.save(tmp_path / f"{name}.npy", x if crops > 1 else x[0])
        made = protocol | {"crops": crops} | changes
        Sidecar(
            video="a.mp4", weights_hash="a" * 16, image_size=16, fps=16.0,
            num_frames=FRAMES, seconds=(0.0, 1.0, 2.0), duration=2.5, **made,
        ).write(tmp_path / f"{name.partition('__')[0]}.json")  # fmt: skip
        return tmp_path / f"{name}.npy"

    return write


def run(*arguments) -> int:
    return detect.main([str(a) for a in arguments])


def refused(capsys, main, *arguments) -> str:
    """What a program says about what it refuses, in one line."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: main([str(a) for a in arguments]))
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("error: ") == 1
    return err[err.index("error: ") :].strip()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame": "mean"}, "frame mean instead of middle"),
        ({"resize": "clip"}, "resize clip instead of stretch"),
        ({"stride": 8}, "stride 8 instead of 16"),
        ({"crops": 5}, "crops 5 instead of 1"),
        (
            {"encoder": "clip@000000000000", "encoder_settings": {}},
            "encoder clip@0000000",
        ),
    ],
)
def test_features_of_another_kind_are_refused_or_said(
    models, features, tmp_path, capsys, changes, words
):
    file, out = features(**changes), tmp_path / "out"
    arguments = (file, "--checkpoint", models["mil_ranking"], "--output", out)
    line = refused(capsys, detect.main, *arguments)
    assert "a.npy: features of clip@" in line and words in line and "--force" in line
    assert not out.exists()
    assert run(*arguments, "--force") == 0
    settings = read_json(out / "events.json")["settings"]
    assert words in settings["force"]
    assert words in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame": "mean"}, "frame mean instead of middle"),
        ({"stride": 8}, "stride 8 instead of 16"),
        (
            {"encoder": "other", "encoder_settings": {}},
            "encoder other instead of clip@",
        ),
    ],
)
def test_protocol_json_speaks_for_features_without_sidecars(
    models, features, protocol, tmp_path, capsys, changes, words
):
    file, out = features(), tmp_path / "out"
    file.with_suffix(".json").unlink()
    # As in a prepared folder: it stands above the folders of the files.
    (tmp_path / "f" / "day").mkdir(parents=True)
    file = file.rename(tmp_path / "f" / "day" / "a.npy")
    write_json(tmp_path / "f" / "protocol.json", protocol | changes)
    arguments = (file, "--checkpoint", models["mil_ranking"], "--output", out)
    line = refused(capsys, detect.main, *arguments)
    assert "a.npy: features of " in line and words in line and not out.exists()
    assert run(*arguments, "--force") == 0
    found = read_json(out / "events.json")
    assert words in found["settings"]["force"]
    stride = changes.get("stride", 16)
    assert f": {stride} frames per snippet, 30 frames per" in capsys.readouterr().err
    edges = inputs.read_features(inputs.VideoInput("a", (file,)), 30.0).edges
    assert edges[1] == pytest.approx(stride / 30)
    # The right protocol is as good as none.
    write_json(tmp_path / "f" / "protocol.json", protocol)
    assert run(*arguments) == 0


def test_the_protocol_that_is_beside_must_be_of_the_arrays(
    models, features, protocol, tmp_path, capsys
):
    file, out = features(), tmp_path / "out"
    file.with_suffix(".json").unlink()
    arguments = (file, "--checkpoint", models["vadclip"], "--output", out)
    for changes, words in (
        ({"stride": 0}, "stride must be a whole number of at least 1, found 0"),
        ({"crops": 10}, "crops is 10, but "),
    ):
        write_json(tmp_path / "protocol.json", protocol | changes)
        assert run(*arguments) == program.EXIT_SKIPPED
        err = capsys.readouterr().err
        assert f"protocol.json: {words}" in err


@pytest.mark.parametrize(
    ("model", "flag", "unused"),
    [
        ("mil_ranking", ("--resize", "stretch"), True),
        ("vadclip", ("--resize", "stretch"), True),
        ("mil_ranking", ("--clip", "some/clip"), True),
        ("vadclip", ("--clip", None), False),  # its prompts go through it
    ],
)
def test_flags_about_frames_where_there_are_none(
    tiny, models, features, tmp_path, model, flag, unused
):
    out = tmp_path / "out"
    flag = [word or str(tiny.clip) for word in flag]
    arguments = (features(), "--checkpoint", models[model], "--output", out, *flag)
    if not unused:
        assert run(*arguments) == 0
        return
    with pytest.raises(InputError, match=f"{flag[0]} has no effect with features"):
        run(*arguments)
    assert not out.exists()


def test_the_crop_that_is_scored_must_be_there(models, features, tmp_path, capsys):
    model = shutil.copytree(models["vadclip"], tmp_path / "model")
    meta = read_json(model / "meta.json")
    meta["card"]["test_crop"] = 1
    write_json(model / "meta.json", meta)
    out = ("--checkpoint", model, "--output", tmp_path / "out")
    line = refused(capsys, detect.main, features(), *out)
    assert "crops 1, without number 1 that is scored" in line
    assert run(features(crops=5), *out) == 0  # how many more is all the same
    # One file of five: its number says which crop it is.
    features(crops=5)
    x = np.load(tmp_path / "a.npy")
    (tmp_path / "a.npy").unlink()  # beside it, a__0 were a video of its own
    for i in (0, 1):
        np.save(tmp_path / f"a__{i}.npy", x[i])
    assert "crop 0 instead of 1" in refused(
        capsys, detect.main, tmp_path / "a__0.npy", *out
    )
    assert run(tmp_path / "a__1.npy", *out) == 0
    # Without a sidecar nothing is known of it.
    (tmp_path / "a.json").unlink()
    assert run(tmp_path / "a__1.npy", *out) == 0


def test_random_towers_are_said_wherever_they_matter(
    models, features, tmp_path, capsys
):
    out = tmp_path / "out"
    assert run(features(), "--checkpoint", models["vadclip"], "--output", out) == 0
    assert "features and prompts" in capsys.readouterr().err
    note = read_json(out / "events.json")["settings"]["clip_note"]
    assert "random weights" in note and "no meaning" in note
    assert note in (out / "report.html").read_text(encoding="utf-8")
    detector = Detector(models["vadclip"])
    assert export.feature_description(detector)["clip_note"] == note


def test_an_export_states_the_whole_protocol(models, tmp_path):
    found = export.feature_description(Detector(models["mil_ranking"]))
    assert (found["frame"], found["resize"], found["stride"]) == (
        "middle",
        "stretch",
        16,
    )
    assert found["crops"] == 1 and found["test_crop"] is None and not found["force"]
    settings = found["encoder_settings"]
    assert settings["activation"] == "quick_gelu" and settings["mean"][0] == 0.48145466
    older = shutil.copytree(models["mil_ranking"], tmp_path / "older")
    meta = read_json(older / "meta.json")
    del meta["features"]["encoder_settings"], meta["features"]["frame"]
    write_json(older / "meta.json", meta)
    found = export.feature_description(Detector(older))
    assert found["frame"] is None and found["encoder_settings"]["activation"] is None
    assert found["encoder_settings"]["mean"][0] == 0.48145466


def other_clip(tiny, folder, tower):
    """The tiny CLIP with another activation in one of its towers."""
    shutil.copytree(tiny.clip, folder)
    config = read_json(folder / "config.json")
    config[tower]["hidden_act"] = "gelu"
    write_json(folder / "config.json", config)
    return folder


def test_the_weights_under_another_activation_are_another_model(
    tiny, models, tmp_path, capsys
):
    video_file, out = write_video(tmp_path / "a.mp4", 20), tmp_path / "out"
    clip = other_clip(tiny, tmp_path / "clip", "vision_config")
    arguments = (
        video_file,
        "--checkpoint",
        models["mil_ranking"],
        "--output",
        out,
        "--clip",
        clip,
    )
    line = refused(capsys, detect.main, *arguments)
    assert "activation gelu instead of quick_gelu" in line
    assert run(*arguments, "--force") == 0
    settings = read_json(out / "events.json")["settings"]
    assert "activation gelu instead of quick_gelu" in settings["force"]
    with pytest.raises(InputError, match="resize clip instead of stretch; leave --res"):
        Detector(models["mil_ranking"], clip=str(tiny.clip), resize="clip")(video_file)
    text = other_clip(tiny, tmp_path / "text", "text_config")
    model = shutil.copytree(models["vadclip"], tmp_path / "model")
    meta = read_json(model / "meta.json")
    meta["tower"]["clip"] = str(text)  # changed in its place since the training
    write_json(model / "meta.json", meta)
    with pytest.raises(
        InputError, match="trained with: text tower .*activation gelu inste"
    ):
        Detector(model)
    assert Detector(model, force=True).forced
    del meta["tower"]["settings"]
    write_json(model / "meta.json", meta)
    with pytest.raises(InputError, match="stored by an older version"):
        Detector(model)


def test_a_dataset_made_in_another_way_is_not_scored(
    tiny, models, protocol, tmp_path, capsys
):
    data = shutil.copytree(tiny.path, tmp_path / "data" / "own" / "1.0.0")
    metadata = read_json(data / "metadata.json")
    metadata["protocol"] = FeatureProtocol(**protocol | {"frame": "mean"}).__dict__
    write_json(data / "metadata.json", metadata)
    flags = [*tiny.flags("mil_ranking"), f"--config.data.name={data}"]
    flags += [f"--checkpoint={models['mil_ranking']}", f"--workdir={tmp_path / 'out'}"]
    line = refused(capsys, evaluate.main, *flags)
    assert "frame mean instead of middle" in line and "--force" in line
    assert not (tmp_path / "out").exists()
    assert evaluate.main([*flags, "--force"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["forced"] == "frame mean instead of middle"
    assert "random weights" in results["clip_note"]


@pytest.mark.parametrize(
    ("trained", "asked", "made", "note"),
    [
        ("bfloat16", None, "bfloat16", ""),
        ("float32", None, "float32", ""),
        ("unknown", None, "float32", ""),
        (
            "float32",
            "bfloat16",
            "bfloat16",
            "bfloat16 instead of float32 (the training)",
        ),
        (
            "bfloat16",
            "float32",
            "float32",
            "float32 instead of bfloat16 (the training)",
        ),
        (
            "unknown",
            "bfloat16",
            "bfloat16",
            "bfloat16 instead of float32 (the default)",
        ),
        ("float32", "auto", resolve_dtype("auto"), ...),
    ],
)
def test_videos_are_encoded_in_the_precision_of_the_training_or_as_asked(
    tiny, protocol, tmp_path, capsys, trained, asked, made, note
):
    known = protocol | {"dtype": trained}
    model = write_model(tiny, "mil_ranking", tmp_path / "model", **known)
    check = FeatureCheck.of_model(open_trained_model(model), None, False, asked)
    assert check.extractor(load_snapshot(tiny.clip)).dtype == made
    if note is not ...:
        assert check.precision_note() == note
        printed = f"note: the precision of the features is {note}" if note else ""
        assert printed in capsys.readouterr().err


def test_results_note_another_precision(models, tiny, tmp_path, capsys):
    write_video(tmp_path / "v.mp4", FRAMES)
    settings = {}
    for dtype in ("float32", "bfloat16"):
        out = tmp_path / dtype
        words = (tmp_path / "v.mp4", "--checkpoint", models["mil_ranking"])
        words += ("--clip", tiny.clip, "--dtype", dtype, "--output", out)
        assert run(*words) == 0
        settings[dtype] = read_json(out / "events.json")["settings"]
        assert capsys.readouterr().err.count("note: the precision") == (
            dtype == "bfloat16"
        )
    assert "dtype" not in settings["float32"]
    note = "bfloat16 instead of float32 (the training)"
    assert settings["bfloat16"]["dtype"] == note
    assert note in (tmp_path / "bfloat16" / "report.html").read_text(encoding="utf-8")


def test_feature_files_of_another_precision_are_noted_once(
    models, features, tmp_path, capsys
):
    files = [features(name=name, dtype="bfloat16") for name in ("a", "b")]
    out = tmp_path / "out"
    assert run(*files, "--checkpoint", models["mil_ranking"], "--output", out) == 0
    assert capsys.readouterr().err.count("bfloat16 instead of float32") == 1
    settings = read_json(out / "events.json")["settings"]
    assert settings["dtype"] == "bfloat16 instead of float32 (the training)"


def test_the_precision_of_features_can_not_be_chosen(
    models, features, tmp_path, capsys
):
    arguments = (features(), "--checkpoint", models["mil_ranking"], "--dtype", "auto")
    line = refused(capsys, detect.main, *arguments, "--output", tmp_path / "out")
    assert "--dtype has no effect with features" in line


def test_an_unknown_precision_is_refused_before_a_video_is_read(models):
    with pytest.raises(InputError, match="dtype must be one of .*, found 'float16'"):
        Detector(models["mil_ranking"], dtype="float16")
