"""config.model.dtype=auto: half precision where a device has units for it."""

import dataclasses

import pytest

from wsvad_jax.experiment import build
from wsvad_jax.experiment.config import load_config
from wsvad_jax.experiment.precision import resolve_dtype
from wsvad_jax.utils.files import read_json


@dataclasses.dataclass
class Device:
    """What JAX says of a device that isn't here."""

    platform: str
    compute_capability: str = ""


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (Device("tpu"), "bfloat16"),
        (Device("gpu", "9.0"), "bfloat16"),
        (Device("gpu", "8.0"), "bfloat16"),
        (Device("gpu", "7.5"), "float32"),
        (Device("gpu", "12.1"), "bfloat16"),
        (Device("gpu", "gfx90a"), "float32"),
        (Device("cpu"), "float32"),
    ],
)
def test_auto_by_device(device, wanted):
    assert resolve_dtype("auto", device) == wanted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_named_precision_is_kept_on_every_device(dtype):
    assert resolve_dtype(dtype, Device("tpu")) == dtype
    assert resolve_dtype(dtype, Device("cpu")) == dtype


def test_a_model_has_the_precision_of_its_device():
    config = load_config(["--config=vadclip:ucf", "--config.model.dtype=auto"])
    assert config.model.dtype == "auto"
    assert build.build_model(config).dtype == resolve_dtype("auto")


def test_a_finished_run_says_its_precision(finished):
    assert read_json(finished / "results.json")["dtype"] == "float32"
    assert read_json(finished / "run.json")["dtype"] == "float32"
