"""On 8 virtual devices: the same training and the same metrics as on one."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from wsvad_jax.parallel import mesh as state_mesh
from wsvad_jax.training import run as train_run
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

FLAGS = "--xla_force_host_platform_device_count=8"
REPOSITORY = pathlib.Path(__file__).parent.parent.parent
SUPPORT, TRAINING = REPOSITORY / "tests/support", REPOSITORY / "tests/training"


def environment():
    paths = os.pathsep.join(map(str, (SUPPORT, TRAINING, REPOSITORY)))
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
    return {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": paths}


def test_the_mesh_has_all_devices():
    mesh = state_mesh.make_mesh({"data": 0, "fsdp": 1})
    assert mesh.axis_names == state_mesh.AXES and mesh.size == jax.device_count()
    with pytest.raises(InputError, match="config.mesh is .* x 3 .* devices, but there"):
        state_mesh.make_mesh({"fsdp": 3})


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mil_ranking", "clip_tsa", "vadclip", "dsanet"])
def test_steps_on_many_devices_are_those_on_one(model):
    run = subprocess.run(
        [sys.executable, SUPPORT / "mesh_training.py", model],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    for mesh in ("8x1", "4x2"):
        one = found[f"{model} {mesh}"]
        assert one["moved"] > 1e-4
        assert one["loss"] < 1e-5 and one["weights"] < 1e-5, (mesh, one)
        assert bool(one["split"]) == (mesh == "4x2")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["clip_tsa", "dsanet"])
def test_metrics_of_many_devices_are_those_of_one(tiny, tmp_path, model):
    """`windows` and `whole` videos, whose number 8 does not divide."""
    train_run.train_and_evaluate(tiny.config(model), tmp_path / "one")
    model_flags = tiny.flags(model, mesh__fsdp=2, eval__batch_size=8)
    place = "--checkpoint", tmp_path / "one" / "model", "--workdir", tmp_path / "many"
    run = tiny.start(*model_flags, *place, program="evaluate", XLA_FLAGS=FLAGS)
    _, errors = run.communicate(timeout=170)
    assert run.returncode == 0, errors
    one, many = (read_json(tmp_path / n / "results.json") for n in ("one", "many"))
    assert "8 ×" in many["device"]
    numbers = [k for k, v in one.items() if isinstance(v, float)]
    assert {"auc", "ap", "video_auc"} <= set(numbers)
    for name in numbers:
        assert many[name] == pytest.approx(one[name], abs=1e-9), name
