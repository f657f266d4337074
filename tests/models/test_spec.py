"""Specs agree with the modules that they describe."""

import dataclasses

import pytest

from wsvad_jax.models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_spec_describes_its_module(name):
    spec = MODELS[name]
    assert spec.name == name
    fields = {f.name for f in dataclasses.fields(spec.Model)}
    assert set(spec.field_ranges) <= fields
    assert spec.window_field is None or spec.window_field in fields
    assert hasattr(spec.Model, "encode_text") == spec.reads_text
    # Gradient accumulation encodes the prompts once.
    assert spec.microbatch_term_weights is None or spec.reads_text


TRAINED = [name for name, spec in MODELS.items() if spec.is_trained]


def test_zero_shot_alone_is_not_trained():
    assert set(MODELS) - set(TRAINED) == {"zero_shot"}


@pytest.mark.parametrize("name", TRAINED)
def test_released_tensors_are_compared_with_fields_of_the_module(name):
    spec = MODELS[name]
    fields = {f.name for f in dataclasses.fields(spec.Model)}
    released = spec.released
    assert released is not None
    compared = [*released.switches, *released.counts, *released.sizes]
    assert {row[1] for row in compared} <= fields
    if released.resembles is not None:
        assert released.resembles.switch in fields
        assert released.resembles.model in MODELS
