"""The number of microbatches: the recipe's, or what a CPU's cache favours."""

import pytest

from wsvad_jax.experiment import build
from wsvad_jax.experiment.config import load_config
from wsvad_jax.parallel import mesh
from wsvad_jax.training.microbatches import (
    CACHE_LIMIT,
    largest_cache,
    microbatches_for_cache,
    num_microbatches,
)
from wsvad_jax.training.run import train_and_evaluate
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

MIB = 2**20


@pytest.mark.parametrize(
    ("videos", "devices", "shape", "cache", "wanted"),
    [
        (32, 1, (256, 512), 32 * MIB, 4),
        (128, 1, (256, 512), 32 * MIB, 16),
        (32, 1, (256, 512), 128 * MIB, 1),
        (32, 1, (256, 512), 1 * MIB, 8),  # 1024 snippets at least
        (32, 1, (32, 512), 32 * MIB, 1),  # the demo, with any cache
        (32, 1, (32, 512), 1 * MIB, 1),
        (36, 1, (256, 512), 32 * MIB, 4),
        (6, 1, (1000, 512), 32 * MIB, 2),  # 4 don't divide the batch
        (5, 1, (1000, 512), 32 * MIB, 1),
        (8, 4, (256, 512), 32 * MIB, 4),  # devices share the cache
    ],
)
def test_the_smallest_power_of_two_that_fits(videos, devices, shape, cache, wanted):
    assert microbatches_for_cache(videos, devices, shape, cache) == wanted


def test_the_largest_cache(tmp_path):
    assert largest_cache(tmp_path / "none") == CACHE_LIMIT
    for i, size in enumerate(("48K", "2048K", "24M", "unknown", "")):
        (tmp_path / f"index{i}").mkdir()
        (tmp_path / f"index{i}/size").write_text(f"{size}\n")
    (tmp_path / "index9").mkdir()  # a cache without a size
    assert largest_cache(tmp_path) == 24 * MIB
    # A virtual machine reports the whole cache of its host.
    (tmp_path / "index2/size").write_text("260M\n")
    assert largest_cache(tmp_path) == CACHE_LIMIT
    assert largest_cache() >= 2**15


@pytest.mark.parametrize("name", ["vadclip", "dsanet", "clip_tsa", "mil_ranking"])
def test_auto_divides_any_batch(name):
    config = load_config([f"--config={name}:ucf", "--config.data.microbatches=auto"])
    spec, device = build.get_model_spec(config), mesh.make_mesh()
    for batch_size in (7, 128):
        number = num_microbatches(config, spec, batch_size, device, (256, 512))
        assert batch_size % number == 0
        assert number == 1 or spec.microbatch_term_weights is not None


def test_flags_take_a_number_or_auto():
    config = load_config(["--config=dsanet:ucf"])
    assert config.data.microbatches == "auto"
    config.data.microbatches = 2  # as in Python
    config = load_config(["--config=dsanet:ucf", "--config.data.microbatches=4"])
    assert config.data.microbatches == 4
    config = load_config(["--config=clip_tsa:ucf", "--config.data.microbatches=auto"])
    assert config.data.microbatches == "auto"


@pytest.mark.parametrize("value", ["many", "2.5", "-1", "True", "none"])
def test_other_values_are_refused(value):
    config = load_config(["--config=dsanet:ucf", f"--config.data.microbatches={value}"])
    said = r"data\.microbatches is .*; expected auto or a whole number in \[1, inf\)"
    with pytest.raises(InputError, match=said):
        build.get_model_spec(config)


@pytest.mark.slow
def test_a_run_notes_the_number_and_goes_on_with_another(tiny, tmp_path, capsys):
    first = tiny.config("vadclip", data__microbatches=2)
    train_and_evaluate(first, tmp_path / "run", keep_checkpoints=True)
    assert read_json(tmp_path / "run/run.json")["microbatches"] == 2
    assert read_json(tmp_path / "run/config.json")["data"]["microbatches"] == 2

    # Its recipe had a number, and the same command has the new default now.
    (tmp_path / "run/results.json").unlink()
    capsys.readouterr()
    train_and_evaluate(tiny.config("vadclip"), tmp_path / "run")
    assert "at step 6 of 6" in capsys.readouterr().out
    assert read_json(tmp_path / "run/run.json")["microbatches"] == 1  # short videos
    assert read_json(tmp_path / "run/config.json")["data"]["microbatches"] == "auto"


@pytest.mark.parametrize(
    "name, parts, said",
    [
        ("dsanet", 3, "doesn't divide the 128 videos of a batch"),
        ("dsanet", 0, "microbatches is 0; expected auto or a whole number"),
        ("clip_tsa", 2, "the objective of clip_tsa needs the whole batch at once"),
        ("mil_ranking", 4, "the objective of mil_ranking needs the whole batch"),
    ],
)
def test_parts_that_a_batch_does_not_have(name, parts, said):
    config = load_config([f"--config={name}:ucf"])
    config.data.microbatches = parts
    with pytest.raises(InputError, match=said):
        spec = build.get_model_spec(config)
        num_microbatches(config, spec, 128, mesh.make_mesh(), (256, 512))
