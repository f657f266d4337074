"""Records which data a run is trained on, and compares it when the run resumes.

data.json in a workdir has the hash of the records, the classes, the feature protocol and
the hash of the text tower. Older versions wrote most of it to run.json and
model/meta.json.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wsvad_jax.results import history
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.data.dataset import Dataset

FILE, ABOUT = "data.json", "run.json"
CARD = ("classes", "stride", "test_crop")  # keys of a card that training depends on
# Files that training writes, in the order in which a restart moves them away. Those that
# identify the run are last, so that an interrupted restart can be repeated.
WRITTEN = (
    *("checkpoints", history.FILE, "tensorboard", "model", "MODEL_CARD.md"),
    *("scores.npz", "curves.json", "report.png", "results.json", ABOUT),
    *(FILE, "config.json"),
)


def describe(
    dataset: "Dataset", tower: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Returns the content of data.json.

    Args:
      dataset: records, classes and feature protocol.
      tower: text tower, with its hash under `hash`; None without prompts.
    """
    card = dataset.card.to_json()
    return {
        "content": dataset.content,
        "card": {key: card[key] for key in CARD},
        "features": dataclasses.asdict(dataset.protocol),
        "tower": tower["hash"] if tower else None,
    }


def prepared(config: "ConfigDict", data_dir: str | os.PathLike | None) -> "Dataset":
    """Opens a recipe's dataset, which must be prepared.

    Raises:
      InputError: the dataset is missing, or can't be opened.
    """
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.datasets import registry

    # Finding makes no dataset, unlike resolving: a finished run needs none.
    path = registry.find_prepared(config.data.name, data_dir)

    if path is None:
        raise InputError(f"the dataset {config.data.name} is not prepared here")
    return open_dataset(path)


def read(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns the data that a workdir was trained on, as `describe`; {} if unknown.

    Raises:
      InputError: one of its files has another shape.
    """
    from wsvad_jax.results.schema import ModelNotes, RunAbout, RunData, read_as

    if (workdir / FILE).is_file():
        return read_as(RunData, workdir / FILE)
    if not (workdir / ABOUT).is_file():
        return {}

    # Older versions wrote no data.json.
    about, meta = read_as(RunAbout, workdir / ABOUT), {}
    if (workdir / "model/meta.json").is_file():
        meta = read_as(ModelNotes, workdir / "model/meta.json")

    card = meta.get("card") or {}
    return {
        "content": about.get("dataset"),
        "card": {key: card[key] for key in CARD if key in card},
        "features": about.get("features"),
    }


def check(workdir: pathlib.Path, now: Mapping[str, Any], advice: str = "") -> bool:
    """Compares the data of a workdir's run with a dataset.

    Args:
      workdir: folder of the run.
      now: description of the dataset, of `describe`.
      advice: end of the message, what the user should do.

    Returns:
      Whether the workdir says on which records it was trained.

    Raises:
      InputError: the data differ.
    """
    before = read(workdir)
    if what := difference(before, now):
        advice = advice or (
            "choose another --workdir, or pass --restart, which keeps the old run in "
            f"{previous(workdir)} and trains from step 0"
        )
        raise InputError(f"{workdir} was trained on other data: {what}; {advice}")
    return bool(before.get("content"))


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns in words how the data of two runs differ, "" if they don't."""
    # Values that one side doesn't know are not compared.
    old, new = before.get("content"), now.get("content")
    if old and new and old != new:
        return (
            f"the dataset's content was {old[:12]} and is now {new[:12]} (videos, "
            "labels, ground truth or features changed)"
        )

    for section in ("card", "features"):
        old, new = (x.get(section) or {} for x in (before, now))
        for key in sorted(old.keys() & new.keys()):
            if not _is_same(key, old[key], new[key]):
                return f"{section}.{key} was {old[key]!r:.200} and is now {new[key]!r:.200}"

    # Another text tower gives the same prompts other features.
    old, new = before.get("tower"), now.get("tower")
    if old and new and old != new:
        return f"the prompts' text tower was {old[:12]} and is now {new[:12]}"
    return ""


def _is_same(key: str, old: Any, new: Any) -> bool:
    """Whether two values of a key agree, or one of them is unknown."""
    if key == "encoder_settings":
        from wsvad_jax.clip.identity import NOT_COMPARED  # with numpy, as below

        # Older versions wrote none, and notes are no part of a model's identity.
        if not (old and new):
            return True
        old, new = (
            {k: v for k, v in dict(x).items() if k not in NOT_COMPARED}
            for x in (old, new)
        )
        return old == new
    if key != "encoder" or "unknown" in (old, new):
        return "unknown" in (old, new) or old == new
    from wsvad_jax.weights.trained_model import (
        same_encoder,  # with numpy, which reports do without
    )

    return same_encoder(new, old)


def note(workdir: pathlib.Path, data: Mapping[str, Any]) -> None:
    """Writes data.json unless it exists, and the first version of run.json."""
    if not (workdir / FILE).is_file():
        write_json(workdir / FILE, data)
    begin_about(workdir)


def begin_about(workdir: pathlib.Path) -> None:
    """Writes run.json from data.json unless it exists; training completes it."""
    from wsvad_jax.results.schema import RunData, read_as

    if (workdir / FILE).is_file() and not (workdir / ABOUT).is_file():
        data = read_as(RunData, workdir / FILE)
        about = {"dataset": data.get("content"), "features": data.get("features")}
        write_json(workdir / ABOUT, about)


def previous(workdir: pathlib.Path) -> pathlib.Path:
    """Returns the folder that a restart would move a run to."""
    number = 1
    while (workdir / f"previous-{number}").exists():
        number += 1
    return workdir / f"previous-{number}"


def set_aside(workdir: pathlib.Path) -> pathlib.Path | None:
    """Moves a run's files into WORKDIR/previous-N; returns it, or None without files."""
    paths = [workdir / name for name in WRITTEN if (workdir / name).exists()]
    if not paths:
        return None

    target = previous(workdir)
    target.mkdir()
    for path in paths:
        path.rename(target / path.name)
    return target
