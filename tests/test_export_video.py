"""Programs from pixels to scores give the scores of `detect --live`, without the package."""

import io
import json
import os
import pathlib
import subprocess
import sys
import venv
from importlib.metadata import version

import numpy as np
import pytest
from sample_videos import write_video
from untrained import write_model

from wsvad_jax.detection import export_video, live
from wsvad_jax.detection.detector import Detector
from wsvad_jax.export import main
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

RUNNER = pathlib.Path(__file__).parent.parent / "docs" / "run_exported_video.py"
# Runs a script as if this package and those that it builds on weren't installed.
WITHOUT = """
import runpy, sys
names = ("wsvad_jax", "flax", "transformers", "PIL", "optax", "ml_collections")
sys.modules.update(dict.fromkeys(names))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FRAMES = {
    "dsanet": "mean",
    "vadclip": "first",
    "mil_ranking": "middle",
    "clip_tsa": "middle",
}


@pytest.fixture(scope="module")
def detectors(tiny, tmp_path_factory):
    """Detectors of all four models, with their image tower, made when asked for."""
    root = tmp_path_factory.mktemp("models")

    class Detectors(dict):
        def __missing__(self, model):
            resize = "clip" if model == "vadclip" else "stretch"
            made = {"frame": FRAMES[model], "resize": resize}
            folder = write_model(tiny, model, root / model, **made)
            self[model] = Detector(folder, clip=str(tiny.clip))
            return self[model]

    return Detectors()


def run_exported(*arguments):
    """Returns the lines of the runner, as objects."""
    command = [sys.executable, "-c", WITHOUT, RUNNER, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def live_lines(detector, source):
    """Returns the lines of `detect --live` about snippets, as objects."""
    out = io.StringIO()
    live.run(detector, str(source), pace=0.0, out=out)
    lines = map(json.loads, out.getvalue().splitlines())
    return [line for line in lines if line["type"] == "snippet"]


def compare(found, wanted, atol=1e-4):
    """Checks that the lines of two programs agree."""
    assert len(found) == len(wanted) > 0
    for key in ("anomaly", "time"):
        values = [[line[key] for line in lines] for lines in (found, wanted)]
        np.testing.assert_allclose(*values, atol=atol if key == "anomaly" else 2e-3)
    assert [s.get("class") for s in found] == [s.get("class") for s in wanted]


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "rotation"),
    [
        ("vadclip", 90),
        pytest.param("dsanet", 0, marks=slow),
        pytest.param("mil_ranking", 270, marks=slow),
        pytest.param("clip_tsa", 0, marks=slow),
    ],
)
def test_the_runner_prints_the_scores_of_a_live_source(
    detectors, tmp_path, model, rotation
):
    # More snippets than a window has, the last one of 5 frames.
    video = write_video(tmp_path / "v.mp4", 16 * 41 + 5, rotation=rotation)
    detector, path = detectors[model], tmp_path / "model.stablehlo"
    size = export_video.frame_size(str(video))
    assert (size.height, size.width) == ((64, 48) if rotation else (48, 64))
    export_video.export_video_model(detector, path, size=size)

    found, wanted = run_exported(path, video), live_lines(detector, video)
    compare(found, wanted)
    assert np.ptp([line["anomaly"] for line in found]) > 1e-3
    about = read_json(f"{path}.json")
    assert about["snippets"] == {"stride": 16, "frame": FRAMES[model]}
    frames = 16 if FRAMES[model] == "mean" else 1
    kind, shape = about["inputs"]["pixels"]
    assert (kind, shape) == ("uint8", [frames, size.height, size.width, 3])

    # Frames of another size, or turned otherwise, aren't scored.
    other = write_video(tmp_path / "o.mp4", 20, (64, 48), rotation=90 - rotation % 180)
    with pytest.raises(subprocess.CalledProcessError) as e:
        run_exported(path, other)
    assert "--size" in e.value.stderr and "Traceback" not in e.value.stderr


@slow
@pytest.mark.parametrize("model", FRAMES)
def test_onnx_prints_the_scores_of_a_live_source(detectors, tmp_path, model):
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    video = write_video(tmp_path / "v.mp4", 16 * 41 + 5)
    detector, path = detectors[model], tmp_path / "model.onnx"
    size = export_video.FrameSize(48, 64)
    export_video.export_video_model(detector, path, size=size)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.onnx", "model.onnx.json", "v.mp4",
    ]  # fmt: skip
    compare(run_exported(path, video), live_lines(detector, video))


@slow
@pytest.mark.parametrize("clip", ["demo.mp4", "test.avi", "hockey/fight/fi0.avi"])
def test_real_clips_have_their_live_scores(detectors, shared, tmp_path, clip):
    """One of them has pixels that aren't square, others stamps that go back."""
    video, detector = shared(f"videos/{clip}"), detectors["vadclip"]
    path = tmp_path / "model.stablehlo"
    size = export_video.frame_size(str(video))
    export_video.export_video_model(detector, path, size=size)
    found, wanted = run_exported(path, video), live_lines(detector, video)
    for line in (*found, *wanted):
        line["time"] = 0.0  # AVI's stamps are chosen by other rules
    compare(found, wanted)


@slow
@pytest.mark.parametrize(
    ("kind", "runtimes"),
    [("onnx", ["onnxruntime"]), ("stablehlo", ["jax", "flatbuffers"])],
)
def test_a_bare_environment_runs_the_program(detectors, tmp_path, kind, runtimes):
    if kind == "onnx":
        pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    video, detector = write_video(tmp_path / "v.mp4", 90), detectors["vadclip"]
    path, size = tmp_path / f"model.{kind}", export_video.FrameSize(48, 64)
    export_video.export_video_model(detector, path, size=size)

    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    versions = [f"{name}=={version(name)}" for name in (*runtimes, "av", "numpy")]
    install = [python, "-m", "pip", "install", "-q", "--no-compile", *versions]
    done = subprocess.run(
        install, check=False, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no packages to install here: {done.stderr[-200:]}")

    command = [python, RUNNER, path, video]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    compare(found, live_lines(detector, video))


def test_words_alone_make_a_program(tiny, tmp_path):
    words = (
        "--classes",
        "a fight,a fire",
        "--normal",
        "a street",
        "--clip",
        str(tiny.clip),
    )
    path = tmp_path / "new" / "zero.stablehlo"
    size = ("--video", "--size", "48x64", "--output", str(path))
    assert main([*words, *size]) == 0
    about = read_json(f"{path}.json")
    assert about["class_names"] == ["Normal", "a fight", "a fire"]
    assert about["picture"] == {"size": [48, 64], "square_size": None}


def test_a_tower_in_half_precision_has_a_program_in_float32(tiny, tmp_path):
    made = {"frame": "middle", "resize": "stretch", "dtype": "bfloat16"}
    folder = write_model(tiny, "mil_ranking", tmp_path / "model", **made)
    detector = Detector(folder, clip=str(tiny.clip))
    assert detector.extractor.dtype == "bfloat16"

    size = export_video.FrameSize(48, 64)
    program = export_video.VideoProgram(detector, size)
    assert program.extractor.dtype == "float32"
    assert "bf16" not in export_video.stablehlo(program).mlir_module()


def test_a_model_with_new_noise_per_call_has_no_program(tiny, tmp_path):
    folder = write_model(tiny, "clip_tsa", tmp_path / "m", frame="first")
    meta = read_json(folder / "meta.json")
    meta["config"]["model"]["test_noise"] = True
    (folder / "meta.json").write_text(json.dumps(meta))
    flags = ("--video", "--size", "48x64", "--clip", str(tiny.clip))
    with pytest.raises(InputError, match="test_noise"):
        main(["--checkpoint", str(folder), *flags, "--output", str(tmp_path / "x")])
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("", "--size is ''"),
        ("240", "--size is '240'"),
        ("240x", "--size is '240x'"),
        ("-1x240", "--size is '-1x240'"),
        ("0x240", "1 to 8192"),
        ("99999999999x240", "--size is"),
        ("99999x240", "1 to 8192"),
        (9000 * "9", "--size is"),
        ("1x8000", "at most 16 times"),
        ("240x320x3", "--size is"),
        ("nanxinf", "--size is"),
        ("２４０x320", "--size is"),
        ("2.5x3", "--size is"),
        ("missing.mp4", "or a video of that size"),
        (".", "folder"),
        (str(RUNNER), "no video|not a video|can't be|cannot"),
    ],
)
def test_a_careless_size_gets_a_sentence(detectors, tmp_path, size, message):
    folder = str(detectors["mil_ranking"].folder)
    flags = ["--checkpoint", folder, "--video", f"--size={size}"]
    with pytest.raises(InputError, match=message):
        main([*flags, "--output", str(tmp_path / "x.stablehlo")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--video"], "--video requires --size"),
        (["--video", "--size", "48x64", "--batch", "2"], "--batch has no effect"),
        (["--video", "--size", "48x64", "--length", "8"], "--length has no effect"),
        (
            ["--size", "48x64"],
            "--size has no effect with a program that takes features",
        ),
        (["--resize", "clip"], "--resize has no effect"),
        (["--classes", "a fire"], "--classes has no effect"),
        (
            ["--video", "--size", "48x64", "--normal", "a"],
            "--normal requires --classes",
        ),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    detectors, tmp_path, flags, message
):
    folder = str(detectors["mil_ranking"].folder)
    with pytest.raises(InputError, match=message):
        main(["--checkpoint", folder, *flags, "--output", str(tmp_path / "x")])
    assert not list(tmp_path.iterdir())
