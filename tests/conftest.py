"""Switches and fixtures for every test."""

import pathlib
from collections.abc import Callable

import jax
import pytest

# A broadcast between ranks is a bug more often than a wish.
jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared() -> Callable[[str], pathlib.Path]:
    """`shared(path)`: a file of the reference data, or a skip where there is none."""

    def find(path: str) -> pathlib.Path:
        found = REPOSITORY.parent / "shared" / path
        if not found.exists():
            pytest.skip(f"reference data ../shared/{path} is not here")
        return found

    return find
