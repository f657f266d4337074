"""Small datasets, folders of one's own and miniature public releases."""

import csv
import json
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from wsvad_jax.data import cards, tfds_builder
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.data.tfds_builder import Dataset

CARD = cards.infer_card(["Normal", "Fire", "Fight"], name="small")
WIDTH = 6


def make_records(count: int, prefix: str, crops: int = 2) -> Iterator[Record]:
    """Records of 1 to 23 snippets, classes in turn, some with two labels."""
    for i in range(count):
        random = np.random.RandomState(i)
        T = 1 + random.randint(23)
        label = ((0,), (1,), (2,), (0,), (1, 2))[i % 5]
        yield Record(
            video=f"{prefix}{i}",
            features=random.standard_normal((crops, T, WIDTH)).astype(np.float16),
            label=label,
            num_frames=T * 16,
            segments=tuple((0, T * 16 - c, c) for c in label if c),
        )


@pytest.fixture(scope="session")
def records() -> Callable[..., Iterator[Record]]:
    return make_records


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """A dataset of its own for a test that adds to it or damages it."""
    splits = {"train": list(make_records(23, "a")), "test": list(make_records(7, "b"))}
    protocol = FeatureProtocol("tower", 16, 2, "middle")
    path = tfds_builder.write_dataset(
        "small", CARD, protocol, splits, tmp_path / "data"
    )
    return tfds_builder.open_dataset(path)


class Folder:
    """A custom folder that a test can bend."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.rows = {
            "train": [
                ("n0", "Normal"),
                ("n1", "Normal"),
                ("f0", "Fire"),
                ("f1", "Fire"),
            ]
            + [("m0", "Fire+Fight")],
            "test": [("tn", "Normal"), ("tf", "Fire"), ("tm", "Fight+Fire")],
        }
        self.truth = [
            {"video": "tn", "label": "Normal", "segments": []},
            {"video": "tf", "label": "Fire", "segments": [[16, 32], [40, 64]]},
            {"video": "tm", "segments": [[0, 9, "Fight"], [20, 64, "Fire"]]},
        ]
        (path / "features").mkdir(parents=True)
        for split, rows in self.rows.items():
            self.write_list(split, rows)
            for video, _ in rows:
                self.write_features(video, np.ones((4, WIDTH), np.float32))
        self.write_truth(self.truth)

    def feature(self, video: str) -> pathlib.Path:
        return self.path / "features" / f"{video}.npy"

    def write_features(self, video: str, features: np.ndarray) -> None:
        np.save(self.feature(video), features)

    def write_list(self, split: str, rows, header=("video", "label")) -> None:
        with open(self.path / f"{split}.csv", "w", newline="") as f:
            csv.writer(f).writerows([header, *rows] if header else rows)

    def write_truth(self, truth) -> None:
        (self.path / "test_segments.json").write_text(json.dumps(truth))

    def write_card(self, **changes) -> None:
        card = {
            "name": "mine",
            "classes": [{"name": "Normal"}, {"name": "Fire"}, {"name": "Fight"}],
            "normal": "Normal",
        }
        (self.path / "card.json").write_text(json.dumps({**card, **changes}))


@pytest.fixture
def own(tmp_path) -> Folder:
    return Folder(tmp_path / "own")
