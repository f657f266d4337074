"""A dataset written by Beam's local runner holds what one process writes."""

import numpy as np
import pytest
from tiny import write_folder

from wsvad_jax import prepare
from wsvad_jax.data import tfds_builder
from wsvad_jax.data.dataset import INDEX, open_dataset
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

pytest.importorskip("apache_beam", reason="Apache Beam is not installed (extra beam)")

WORKERS = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.fixture
def own(tmp_path):
    write_folder(tmp_path / "own")
    return tmp_path / "own"


def made(own, place, *flags):
    assert prepare.main([str(own), "--data_dir", str(place), *flags]) == 0
    (path,) = place.glob("own/*")
    return path


@pytest.mark.parametrize("size", [5, 128])
def test_records_are_those_of_one_process(own, tmp_path, monkeypatch, size):
    monkeypatch.setattr(tfds_builder, "SHARD_RECORDS", size)
    alone = made(own, tmp_path / "alone")
    beam = made(own, tmp_path / "beam", "--runner=DirectRunner", *WORKERS)
    a, b = open_dataset(alone), open_dataset(beam)
    assert a.content == b.content and a.width == b.width
    rows = [read_json(path / INDEX) for path in (alone, beam)]
    assert rows[0]["splits"] == rows[1]["splits"]
    assert list(rows[0]["files"]) == list(rows[1]["files"])
    assert len(rows[0]["files"]) == sum(-(-n // size) for n in (12, 6))
    for split in ("train", "test"):
        for x, y in zip(a.split(split), b.split(split), strict=True):
            assert (x.video, x.label, x.segments) == (y.video, y.label, y.segments)
            np.testing.assert_array_equal(x.features, y.features)
    assert {p.name for p in alone.iterdir()} == {p.name for p in beam.iterdir()}


def test_a_bad_file_is_named_or_left_out(own, tmp_path):
    bad = own / "features/train3.npy"
    values = np.load(bad)
    values[2, 3] = np.nan  # the survey of headers doesn't see it
    np.save(bad, values)
    with pytest.raises(InputError, match="train3.npy"):
        made(own, tmp_path / "beam", "--runner=DirectRunner")
    assert not [*(tmp_path / "beam").rglob("*array_record*")]
    path = made(own, tmp_path / "beam", "--runner=DirectRunner", "--skip-bad")
    dataset = open_dataset(path)
    assert len(dataset.split("train")) == 11
    assert "train3" in (path / "report.txt").read_text()


def test_a_runner_that_there_is_not(own, tmp_path):
    with pytest.raises(InputError, match="--runner Nonsense"):
        made(own, tmp_path / "beam", "--runner=Nonsense")
    with pytest.raises(InputError, match="demo is made by one process"):
        prepare.main(["demo", "--runner=DirectRunner"])
