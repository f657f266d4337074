"""Ranges of a recipe's values."""

import dataclasses
import math

import ml_collections
import pytest

from wsvad_jax.experiment import build, validation
from wsvad_jax.experiment.config import load_config
from wsvad_jax.models import MODELS
from wsvad_jax.utils.errors import InputError


def refused(value, allowed) -> bool:
    config = ml_collections.ConfigDict({"deep": {"key": value}})
    try:
        validation.check(config, {"*.key": allowed}, "some config.")
    except InputError as e:
        assert str(e).startswith(f"some config.deep.key is {value!r}; expected ")
        return True
    return False


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        ("[0, 1)", [0, 0.0, 0.999], [-1e-9, 1, 1.0, math.nan, math.inf]),
        ("(0, 1]", [1e-9, 1], [0, 1.001, math.nan]),
        ("(-inf, inf)", [-1e30, 0, 1e30], [math.nan, math.inf, -math.inf]),
        ("[1, inf)", [1, 10**12, True, "word", (0, 0)], [0, -1]),
        (("best", "last"), ["best", "last"], ["first", ""]),
        (
            validation.ListOf(("[0, inf)",)),
            [(), (0,), [3, 1]],
            [(1.5,), (-1,), (True,), ("a", "b"), (2, 2), 3, "0,1"],
        ),
    ],
    ids=str,
)
def test_what_a_range_holds(allowed, inside, outside):
    assert [v for v in inside if refused(v, allowed)] == []
    assert [v for v in outside if not refused(v, allowed)] == []


@pytest.mark.parametrize("name", MODELS)
def test_recipes_lie_within(name):
    Model = MODELS[name].Model
    assert set(MODELS[name].field_ranges) <= {f.name for f in dataclasses.fields(Model)}
    for dataset in ("demo", "ucf", "xd", "shanghaitech", "ucf_r3d18"):
        config = load_config([f"--config={name}:{dataset}"])
        assert build.get_model_spec(config) is MODELS[name]
        build.build_model(config)
        config.seed = -1  # as from a notebook, which no program checks
        with pytest.raises(InputError, match=r"config.seed is -1; expected"):
            build.get_model_spec(config)
