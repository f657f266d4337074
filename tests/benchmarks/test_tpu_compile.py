"""Programs compiled for TPUs: what is counted in them, and that they fit a chip."""

import importlib.util
import json

import pytest

from wsvad_jax import benchmark
from wsvad_jax.benchmarks import tpu_compile
from wsvad_jax.utils.errors import InputError

PROGRAM = """
HloModule jit_step, is_scheduled=true
%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y), metadata={op_name="all-reduce"}
}
ENTRY %main {
  %a = (f32[512,10]{1,0:T(8,128)}, bf16[4]{0}) all-reduce(%p, %q), to_apply=%add
  %b = f32[] all-reduce(%r), channel_id=2, to_apply=%add
  %c = (f32[8], f32[8]) all-gather-start(%s), dimensions={0}
  %d = f32[8] all-gather-done(%c)
  ROOT %e = f32[2] get-tuple-element(%a), index=0
}
"""
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="the TPU compiler is not installed (extra aot)",
)


def test_messages_are_counted():
    assert tpu_compile.collectives(PROGRAM) == {
        "all-reduce": {"count": 2, "bytes": 512 * 10 * 4 + 4 * 2 + 4},
        "all-gather": {"count": 1, "bytes": 2 * 8 * 4},
    }


def found(mebibytes):
    program = {"model": "dsanet", "dataset": "ucf", "work": "training"}
    program |= {"shape": [128, 1, 256, 512], "chips": 8, "flop": 2.5e12}
    program |= {"bytes": {"all": mebibytes * 2**20}}
    program |= {"collectives": tpu_compile.collectives(PROGRAM)}
    head = {"topology": "v5e:2x4", "device": "TPU v5 lite", "chips": 8, "gib": 16}
    return head | {"programs": [program]}


def test_the_table_and_what_fits():
    title, head, _, row = tpu_compile.table(found(1500))
    assert title == "v5e:2x4: 8 x TPU v5 lite, 16 GiB each"
    assert row.split() == [
        *("dsanet", "ucf", "training", "128x1x256x512", "8"),
        *("1500", "2500.0", "2", "0.02", "1"),
    ]
    assert "MiB per chip" in head and "all-reduces" in head
    assert tpu_compile.fits_in_memory(found(16 * 1024))
    assert not tpu_compile.fits_in_memory(found(16 * 1024 + 1))
    full = found(1)
    full["programs"][0] = {**full["programs"][0], "error": "Ran out of memory"}
    del full["programs"][0]["bytes"]
    assert not tpu_compile.fits_in_memory(full)
    assert "does not fit" in tpu_compile.table(full)[-1]


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is not None, reason="the compiler is there"
)
def test_without_the_compiler():
    with pytest.raises(InputError, match="pip install libtpu"):
        benchmark.main(["aot"])


@pytest.mark.parametrize("names", ["", "v5e:2x4,"])
def test_an_empty_topology(names):
    """Of which the compiler would make one of its own."""
    with pytest.raises(InputError, match="--topology has an empty name"):
        benchmark.main(["aot", "--topology", names])


@needs_libtpu
@pytest.mark.slow
def test_an_unknown_topology():
    with pytest.raises(InputError, match="--topology v5e:nothing: .* like v5e:2x4"):
        benchmark.main(["aot", "--topology", "v5e:nothing"])


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e:2x4", "v4:2x2x2"])
@pytest.mark.parametrize("model", benchmark.MODELS)
def test_recipes_fit_a_chip_at_the_published_batch(tmp_path, capsys, topology, model):
    output = tmp_path / "aot.json"
    which = ["--models", model, "--datasets", "ucf", "--topology", topology]
    assert benchmark.main(["aot", *which, "--output", str(output)]) == 0
    (one,) = json.loads(output.read_text())
    assert one["chips"] == 8
    assert "every program fits a chip" in capsys.readouterr().out
    for program in one["programs"]:
        assert program["flop"] > 0
        assert program["bytes"]["all"] < one["gib"] * 2**30
        if program["work"] == "training":  # gradients are summed over the chips
            assert program["collectives"]["all-reduce"]["count"] > 0
