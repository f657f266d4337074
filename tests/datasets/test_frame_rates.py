"""Frame rates of prepared videos: from sidecars, from the card, or unknown."""

import dataclasses

import pytest

from wsvad_jax import prepare
from wsvad_jax.data import cards
from wsvad_jax.data.cards import Card
from wsvad_jax.data.dataset import INDEX, open_dataset
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.datasets.demo.figures import FPS
from wsvad_jax.datasets.registry import frame_rate
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json


def write_sidecar(own, video: str, duration: float) -> None:
    """A sidecar of a video of 64 frames, at another stated rate than its mean."""
    made = ("a@b", "c", 16, "middle", 1, "stretch", 8, 30.0, 64, (0.0, 1.0, 2.0, 3.0))
    side = Sidecar(f"{video}.mp4", *made, duration)
    side.write(own.feature(video).with_suffix(".json"))


def rates(own, data):
    """Frame rates of the prepared test videos by name."""
    dataset = open_dataset(prepare.prepare(str(own.path), data_dir=str(data)))
    entries = dataset.split("test").entries
    return {e.video: frame_rate(e, dataset.card) for e in entries}


def test_rates_of_sidecars_come_before_that_of_the_card(own, tmp_path):
    assert rates(own, tmp_path) == {"tn": None, "tf": None, "tm": None}
    write_sidecar(own, "tf", 4.0)
    write_sidecar(own, "tm", 0.0)  # says nothing of time
    assert rates(own, tmp_path) == {"tn": None, "tf": 16.0, "tm": None}
    own.write_card(fps=25)
    assert rates(own, tmp_path) == {"tn": 25.0, "tf": 16.0, "tm": 25.0}


def test_datasets_of_older_versions_have_no_rates(own, tmp_path):
    write_sidecar(own, "tf", 4.0)
    path = prepare.prepare(str(own.path), data_dir=str(tmp_path))
    index = read_json(path / INDEX)
    write_json(path / INDEX, {k: v for k, v in index.items() if k != "fps"})
    assert {e.fps for e in open_dataset(path).split("test").entries} == {0.0}
    for damaged in ({"tf": "16"}, {"tf": -1}, [16], {"tf": float("inf")}):
        write_json(path / INDEX, index | {"fps": damaged})
        with pytest.raises(InputError, match="prepare the dataset again"):
            open_dataset(path)


def test_a_demo_of_an_older_version_has_its_rate(dataset):
    entry = dataset.split("test").entries[0]
    assert frame_rate(entry, Card("demo", dataset.card.classes)) == FPS
    assert frame_rate(entry, dataset.card) is None


@pytest.mark.parametrize("rate", [0, -25, "25", True, [25], float("nan"), 1e300])
def test_a_card_needs_a_rate_above_zero(own, rate):
    own.write_card(fps=rate)
    with pytest.raises(InputError, match="card.json: fps must be .*, found"):
        prepare.prepare(str(own.path), data_dir=str(own.path / "data"))


def test_a_card_is_written_as_before_where_the_rate_is_unknown():
    assert "fps" not in cards.XD.to_json()
    stated = dataclasses.replace(cards.XD, fps=24.0)
    assert Card.from_json(stated.to_json(), "card.json") == stated
