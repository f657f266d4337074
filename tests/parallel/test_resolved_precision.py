"""config.model.dtype=auto: half precision where a device has units for it."""

import dataclasses

import jax
import pytest

from wsvad_jax.experiment import build
from wsvad_jax.experiment.config import load_config
from wsvad_jax.parallel import precision
from wsvad_jax.parallel.precision import resolve_dtype
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
    ],
)
def test_auto_by_device(device, wanted):
    assert resolve_dtype("auto", device) == wanted


@pytest.mark.parametrize(
    ("instructions", "wanted"),
    [
        ("fpu avx512f avx512_bf16 amx_bf16 avx512_fp16 amx_tile amx_int8", "bfloat16"),
        ("fpu avx512f avx512_bf16", "float32"),  # no faster in half precision
        ("fpu avx512f amx_tile amx_int8", "float32"),
        ("", "float32"),
    ],
)
def test_auto_by_the_instructions_of_a_cpu(instructions, wanted, tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    core = f"processor\t: 0\nflags\t\t: {instructions}\nvmx flags\t: amx_bf16\n\n"
    info.write_text(2 * core)
    monkeypatch.setattr(precision, "CPU_INFO", info)
    assert resolve_dtype("auto", Device("cpu")) == wanted

    # Several processes may be on unlike CPUs, and must choose alike.
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert resolve_dtype("auto", Device("cpu")) == "float32"


def test_auto_on_a_cpu_of_another_system(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    assert resolve_dtype("auto", Device("cpu")) == "float32"


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
