"""Exported programs give the model's own scores, in any batch and without the model."""

import json
import subprocess
import sys

import numpy as np
import pytest
from untrained import write_model

from wsvad_jax.detection import export
from wsvad_jax.detection.detector import Detector
from wsvad_jax.export import main
from wsvad_jax.utils import program as cli
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")
CROPS = {"mil_ranking": 2, "clip_tsa": 2, "vadclip": 1, "dsanet": 1}


@pytest.fixture(scope="module")
def detectors(tiny, tmp_path_factory):
    """Detectors of all four models."""
    root = tmp_path_factory.mktemp("models")
    return {m: Detector(write_model(tiny, m, root / m)) for m in MODELS}


def inputs(detector, model, videos):
    """Videos of all lengths, their padding zero; values that float16 has."""
    random, T = np.random.RandomState(videos), detector.T
    shape = (videos, CROPS[model], T, detector.width)
    length = np.linspace(T, 1, videos).astype(np.int32)
    x = (
        random.standard_normal(shape)
        * (np.arange(T) < length[:, None])[:, None, :, None]
    )
    return x.astype(np.float16).astype(np.float32), length


@pytest.mark.parametrize("model", MODELS)
def test_a_reloaded_program_scores_as_the_model_does(detectors, tmp_path, model):
    detector = detectors[model]
    path = export.export_model(
        detector,
        tmp_path / "model.stablehlo",
        length=detector.T,
        crops=CROPS[model],
    )
    program = export.load(path)
    assert program.platforms == ("cpu", "cuda", "tpu")
    described = read_json(tmp_path / "model.stablehlo.json")
    for videos in (1, 5):  # the batch is a symbol
        features, length = inputs(detector, model, videos)
        found = program.call(features, length)
        wanted = detector.score_windows(features, length)
        assert list(found) == list(described["outputs"])
        for name, value in found.items():
            np.testing.assert_allclose(value, wanted[name], atol=1e-5)
            kind, shape = described["outputs"][name]
            assert kind == "float32"
            assert tuple(shape[1:]) == value.shape[1:] and shape[0] == "b"
        assert np.ptp(wanted["anomaly"][0]) > 1e-4  # the scores do say something
    assert described["inputs"]["features"][1] == ["b", *features.shape[1:]]
    assert described["class_names"] == ["Normal", "Fight", "Fire"]
    assert set(described["thresholds"]) >= {"high", "low", "min_length", "max_gap"}


def test_a_model_in_half_precision_has_a_program_in_float32(detectors, tiny, tmp_path):
    folder = write_model(tiny, "vadclip", tmp_path / "model")
    meta = read_json(folder / "meta.json")
    meta["config"]["model"]["dtype"] = "bfloat16"
    write_json(folder / "meta.json", meta)
    half, full = Detector(folder), detectors["vadclip"]
    assert half.network.model.dtype == "bfloat16"

    program = export.stablehlo(half, (1, half.T, half.width))
    assert "bf16" not in program.mlir_module()
    features, length = inputs(half, "vadclip", 3)
    wanted, found = full.score_windows(features, length), program.call(features, length)
    np.testing.assert_allclose(found["anomaly"], wanted["anomaly"], atol=1e-5)
    # The features of the class names were encoded in half precision.
    np.testing.assert_allclose(found["classes"], wanted["classes"], atol=0.02)


def test_a_program_runs_without_this_package(detectors, tmp_path):
    """What FILE.json says under `call` is enough, in a process that has JAX only."""
    detector = detectors["vadclip"]
    path = export.export_model(detector, tmp_path / "v.stablehlo")
    features, length = inputs(detector, "vadclip", 3)
    np.savez(tmp_path / "in.npz", features=features, length=length)
    call = read_json(f"{path}.json")["call"].replace("FILE", "'v.stablehlo'")
    code = f"""
import sys, numpy, jax.export
inputs = numpy.load("in.npz")
features, length = inputs["features"], inputs["length"]
scores = {call}
assert not [name for name in sys.modules if name.startswith(("wsvad_jax", "flax"))]
numpy.savez("out.npz", **scores)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    wanted = detector.score_windows(features, length)
    with np.load(tmp_path / "out.npz") as found:
        assert sorted(found.files) == ["anomaly", "classes"]
        for name in found.files:
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)


def test_the_program_writes_the_file_and_its_description(detectors, tmp_path, capsys):
    folder = detectors["mil_ranking"].folder
    target = tmp_path / "new" / "m.stablehlo"
    assert main(["--checkpoint", str(folder), "--output", str(target)]) == 0
    assert "MiB" in capsys.readouterr().out
    described = json.loads(target.with_name("m.stablehlo.json").read_text())
    assert described["inputs"]["features"][1] == ["b", 1, export.LONGEST, 32]
    assert list(described["outputs"]) == ["anomaly"]


def test_what_does_not_fit_is_refused(detectors, tmp_path, capsys):
    with pytest.raises(InputError, match="--length 7"):
        export.export_model(detectors["dsanet"], tmp_path / "x", length=7)
    with pytest.raises(InputError, match="--crops 5"):
        export.export_model(detectors["vadclip"], tmp_path / "x", crops=5)
    with pytest.raises(InputError, match="no such file"):
        export.load(tmp_path / "x")
    (tmp_path / "damaged").write_bytes(b"not a program" * 100)
    with pytest.raises(InputError, match="damaged"):
        export.load(tmp_path / "damaged")
    with pytest.raises(SystemExit) as e:
        cli.run(lambda: main(["--checkpoint", str(tmp_path), "--output", "never"]))
    assert e.value.code == 2
    assert "no model here" in capsys.readouterr().err
    assert not list(tmp_path.glob("x*"))


def test_a_folder_is_no_file_to_write(detectors, tmp_path):
    ready = ("--checkpoint", str(detectors["mil_ranking"].folder))
    (tmp_path / "m").mkdir()
    with pytest.raises(InputError, match=r"--output .*/m: is a folder; expected the f"):
        main([*ready, "--output", str(tmp_path / "m")])
    with pytest.raises(InputError, match="/m: is a folder"):
        export.export_model(detectors["mil_ranking"], tmp_path / "m")
    assert [p.name for p in tmp_path.rglob("*")] == ["m"]


def test_a_model_without_prompts_has_no_use_for_a_clip_model(detectors, tmp_path):
    ready = ("--checkpoint", str(detectors["mil_ranking"].folder), "--clip", "a/b")
    with pytest.raises(InputError, match="--clip has no effect with this model"):
        main([*ready, "--output", str(tmp_path / "m")])
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages_says_what_to_install(
    detectors, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r"wsvad-jax\[onnx\]"):
        export.export_model(detectors["dsanet"], tmp_path / "x.onnx", kind="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_onnx_scores_as_the_model_does(detectors, tmp_path, capsys, model):
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime")
    detector = detectors[model]
    fixed = None if detector.network.spec.onnx_any_batch else 2
    path = export.export_model(
        detector,
        tmp_path / "model.onnx",
        kind="onnx",
        length=detector.T,
        crops=CROPS[model],
        batch=fixed,
    )
    described = read_json(f"{path}.json")
    batch = described["inputs"]["length"][1][0]

    # Some versions of the converter can't leave it open; that is said, and it works.
    if fixed is None and batch != "b":
        assert batch == 1 and "fixed at 1" in described["batch_note"]
        assert "fixed at 1" in capsys.readouterr().err
    else:
        assert batch == (fixed or "b") and "batch_note" not in described
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == list(described["outputs"])
    for videos in (2, 5) if batch == "b" else (batch,):
        features, length = inputs(detector, model, videos)
        found = session.run(None, {"features": features, "length": length})
        wanted = detector.score_windows(features, length)
        for name, value in zip(names, found, strict=True):
            np.testing.assert_allclose(value, wanted[name], atol=1e-5)
