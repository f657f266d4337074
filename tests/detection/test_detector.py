"""What a detector is called with: a path, and one sentence about anything else."""

import pathlib

import numpy as np
import pytest

from wsvad_jax.detection.inputs import path_of
from wsvad_jax.utils.errors import InputError


@pytest.mark.parametrize("given", ["a/b.mp4", pathlib.Path("a/b.mp4")])
def test_a_path_is_taken(given):
    assert path_of(given) == pathlib.Path("a/b.mp4")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            np.ones((12, 16), np.float32),
            r"an array of shape \(12, 16\); .* Detector.sc",
        ),
        (None, "found NoneType"),
        (["a.mp4"], "found list"),
    ],
)
def test_what_is_no_path_is_named(given, words):
    with pytest.raises(InputError, match=f"expected the path of a video.*{words}"):
        path_of(given)
