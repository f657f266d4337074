"""A toy dataset with two wrong labels, and the folder of a run on it, for audits."""

import dataclasses
import pathlib

import numpy as np
from finished import CARD, recipe

from wsvad_jax.data import tfds_builder
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.experiment.identity import comparable_config
from wsvad_jax.utils.files import write_json

# Class of each video in truth: 12 normal ones, 6 of Fight and 6 of Fire.
TRUTH = (0, 1, 0, 2) * 6
WRONG = {"v02": 1, "v05": 0}  # a normal video labelled Fight, a fight labelled Normal
WIDTH = 8
CHANGES = ("clean.steps=40", "clean.batch_size=8", "clean.optim.default.lr=0.05")


def toy_record(
    i: int, category: int, label: int, name: str = "", *, clear: bool = False
) -> Record:
    """A video in which the truth shows for 4 snippets, wherever its label is."""
    name, random = name or f"v{i:02d}", np.random.RandomState(100 + i)
    T = 12 + i % 5
    features = 0.3 * random.standard_normal((1, T, WIDTH))
    features[..., 0] += 3  # the street, without which normalised noise is all there is
    if category:
        # Clearer where the label is wrong, so that ranks among few videos say so.
        change = 3 if clear or name in WRONG else 1.8
        features[:, 3:7, [0, category]] += (-change, change)
    return Record(name, features.astype(np.float16), (label,), T * 16, ())


def toy_records(labels=None, copies=()) -> list[Record]:
    labels = [WRONG.get(f"v{i:02d}", c) for i, c in enumerate(TRUTH)]
    records = [
        toy_record(i, c, label)
        for i, (c, label) in enumerate(zip(TRUTH, labels, strict=True))
    ]
    for i, name in copies:
        records.append(dataclasses.replace(records[i], video=name))
    return records


def write_toy(folder: pathlib.Path, records=None, name: str = "toy") -> pathlib.Path:
    """Prepares a dataset; returns its version folder."""
    test = [toy_record(50 + i, c, c, f"t{i}") for i, c in enumerate((0, 1, 2))]
    splits = {"train": records or toy_records(), "test": test}
    card = dataclasses.replace(CARD, name=name, fps=16.0)
    protocol = FeatureProtocol("tower", 16, 1, "middle")
    return tfds_builder.write_dataset(name, card, protocol, splits, folder)


def write_run(
    folder: pathlib.Path, dataset: pathlib.Path, *changes: str, model="mil_ranking"
):
    """Writes what an unfinished run of a recipe leaves."""
    config = recipe(model, str(dataset), 0, *CHANGES, *changes)
    write_json(folder / "config.json", comparable_config(config))
    return folder


@dataclasses.dataclass(frozen=True)
class Toy:
    dataset: pathlib.Path
    run: pathlib.Path

    @property
    def output(self) -> pathlib.Path:
        return self.run / "audit"
