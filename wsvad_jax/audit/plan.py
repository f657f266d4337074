"""Plans the folds of an audit, and keeps the plan, so that an audit can resume.

folds.json says which recipe, records and labels the folds belong to, and the fold of
each video. If one of these has changed, the earlier audit is moved to previous-N.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from wsvad_jax.audit import copies
from wsvad_jax.audit.folds import assign_folds, is_abnormal
from wsvad_jax.experiment import identity
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.audit.video_files import VideosAtHand
    from wsvad_jax.experiment.build import Experiment

FILE = "folds.json"
FORMAT, VERSION = "wsvad_jax audit folds", 1
IGNORED = (*identity.MUTABLE_ON_RESUME, "data.name")  # change no score


@dataclasses.dataclass(frozen=True)
class FoldPlan:
    """Fold of each training video, with the copies among them."""

    fold: Int[np.ndarray, "V"]
    groups: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


def plan_folds(
    experiment: "Experiment",
    folder: pathlib.Path,
    num_folds: int,
    videos: "VideosAtHand",
) -> FoldPlan:
    """Returns the folds of an earlier audit in `folder`, or plans new ones.

    Args:
      experiment: opened recipe and dataset.
      folder: folder of the audit.
      num_folds: number of folds.
      videos: video files, to recognise copies.

    Raises:
      InputError: the folder holds other files, or the videos don't suffice.
    """
    wanted = {
        "format": FORMAT,
        "version": VERSION,
        "num_folds": num_folds,
        **_identity(experiment),
    }
    entries = experiment.dataset.split("train").entries
    earlier = _read(folder / FILE)
    if all(earlier.get(key) == value for key, value in wanted.items()):
        fold = np.array([earlier["fold"][e.video] for e in entries], np.int64)
        groups = tuple(tuple(group) for group in earlier["groups"])
        return FoldPlan(fold, groups, tuple(earlier["notes"]))

    # Checked with no groups first: comparing videos takes longer than counting them.
    labels, seed = [e.label for e in entries], experiment.config.seed
    assign_folds(labels, [], num_folds, seed)
    _set_aside(folder, earlier, wanted)
    groups, notes = copies.group_copies(experiment, videos)
    fold = assign_folds(labels, groups, num_folds, seed)

    by_video = {e.video: int(f) for e, f in zip(entries, fold, strict=True)}
    kept = {"groups": [list(g) for g in groups], "notes": notes, "fold": by_video}
    files.write_json(folder / FILE, {**wanted, **kept})
    return FoldPlan(fold, tuple(groups), tuple(notes))


def _identity(experiment: "Experiment") -> dict[str, Any]:
    """Returns what the scores of the folds depend on, as JSON has it."""
    config = identity.comparable_config(experiment.config)
    labels = [(e.video, e.label) for e in experiment.dataset.split("train").entries]
    digest = hashlib.sha256(json.dumps(labels).encode(errors="surrogateescape"))
    value = {
        "content": experiment.dataset.content,
        "labels": digest.hexdigest(),
        "text_tower": (experiment.text_tower_id or {}).get("hash", ""),
        "recipe": identity.keys_in_force(config, IGNORED),
    }
    return json.loads(json.dumps(value))


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of folds.json, {} without one.

    Raises:
      InputError: the folder holds other files, or the file is damaged.
    """
    if not path.is_file():
        folder = path.parent
        if folder.is_dir() and any(p.name[:1] != "." for p in folder.iterdir()):
            raise InputError(
                f"{folder} is not empty and holds no audit ({FILE} is missing); choose "
                "another --output"
            )
        return {}

    value = files.read_json(path)
    keys = {"fold": dict, "groups": list, "notes": list}
    shaped = isinstance(value, dict) and value.get("format") == FORMAT
    if not shaped or not all(isinstance(value.get(k), t) for k, t in keys.items()):
        raise InputError(
            f"{path}: not written by an audit of this version; choose another --output"
        )
    return value


def _set_aside(
    folder: pathlib.Path, earlier: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Moves an earlier audit of other data to previous-N, and says what differs."""
    if not earlier:
        return
    number = 1
    while (folder / f"previous-{number}").exists():
        number += 1
    target = folder / f"previous-{number}"
    target.mkdir()

    # Earlier audits stay where they are, and so do hidden files.
    for path in sorted(folder.iterdir()):
        if path.name[:1] != "." and not path.name.startswith("previous-"):
            path.rename(target / path.name)

    names = {
        "num_folds": "the number of folds",
        "content": "the dataset",
        "labels": "the labels",
        "text_tower": "the text tower",
        "recipe": "the recipe",
        "version": "the program",
    }
    changed = [names.get(k, k) for k in wanted if earlier.get(k) != wanted[k]]
    print(
        f"note: {' and '.join(changed)} changed since the last audit, which is moved to "
        f"{target}",
        file=sys.stderr,
    )


def fit_batch(experiment: "Experiment", fold: Int[np.ndarray, "V"]) -> "Experiment":
    """Returns the experiment with batches that the smallest fold's training can fill.

    Every fold has the same batch size, so their programs are compiled once.

    Args:
      experiment: opened recipe and dataset.
      fold: fold of each training video.
    """
    import math

    from wsvad_jax.data import batching, packing
    from wsvad_jax.training.microbatches import required_microbatches

    config, split = experiment.config, experiment.dataset.split("train")
    label = packing.multi_hot(split, len(experiment.dataset.card.classes))
    crops = np.array([e.num_crops for e in split.entries])
    samples = crops if config.data.samples == "crops" else np.ones_like(crops)
    normal = np.array([not is_abnormal(e.label) for e in split.entries])

    # A part of the training videos of a fold may select its weights.
    protocol = experiment.protocol_config
    fraction = protocol.held_out if config.protocol == "clean" else 0
    balanced = config.data.batch_sampling == "balanced"
    available = []
    for f in np.unique(fold):
        kept = np.flatnonzero(fold != f)
        if fraction:
            held_out = batching.held_out_mask(label[kept], fraction, config.seed)
            kept = kept[~held_out]
        sides = [int(samples[kept][normal[kept] == side].sum()) for side in (1, 0)]
        available.append(2 * min(sides) if balanced else sum(sides))

    multiple = math.lcm(
        2 if balanced else 1, experiment.mesh.size * required_microbatches(config)
    )
    most = min(available) // multiple * multiple
    if protocol.batch_size <= most or not most:
        return experiment  # too few samples are reported by the training

    print(
        f"note: batches of {most} instead of {protocol.batch_size}, since a fold's "
        "training has fewer videos than the run's",
        file=sys.stderr,
    )
    config = config.copy_and_resolve_references()
    config[config.protocol].batch_size = most
    return dataclasses.replace(experiment, config=config)
