"""Writes the files of finished runs, with random scores of a small test set."""

import pathlib
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from wsvad_jax.data import cards, tfds_builder
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.experiment.config import load_config
from wsvad_jax.experiment.identity import comparable_config
from wsvad_jax.metrics import frame_level
from wsvad_jax.metrics.curves import curves
from wsvad_jax.metrics.frame_level import EvalVideo
from wsvad_jax.utils.files import write_json

CARD = cards.infer_card(["Normal", "Fire", "Fight"], name="small")
CONFIGS = pathlib.Path(__file__).parent.parent.parent / "configs"


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Steps of a run's whole checkpoints; orbax names unfinished ones otherwise."""
    names = (p.name for p in (workdir / "checkpoints").glob("[0-9]*"))
    return sorted(int(name) for name in names if name.isdigit())


def records(count: int, prefix: str, width: int = 8) -> Iterator[Record]:
    """Videos of 3 to 8 snippets, every other normal; anomalies shift the features."""
    for i in range(count):
        random = np.random.RandomState(i)
        T, label = 3 + i % 6, (0, 1, 0, 2)[i % 4]
        features = random.standard_normal((1, T, width)).astype(np.float16)
        features[:, : T // 2] += 2 * (label > 0)
        segments = ((0, T // 2 * 16, label),) if label else ()
        yield Record(f"{prefix}{i}", features, (label,), T * 16, segments)


def write_small(folder: pathlib.Path) -> pathlib.Path:
    """Prepares a dataset of 40 training and 12 test videos; returns its path."""
    splits = {"train": records(40, "a"), "test": records(12, "b")}
    protocol = FeatureProtocol("tower", 16, 1, "middle")
    return tfds_builder.write_dataset("small", CARD, protocol, splits, folder)


def recipe(model: str, dataset: str, seed: int = 0, *changes: str) -> ConfigDict:
    """Returns a recipe of configs/, with KEY=VALUE changed."""
    flags = [f"--config={CONFIGS / model}.py:{dataset}", f"--config.seed={seed}"]
    return load_config(flags + [f"--config.{change}" for change in changes])


def scored(seed: int, *, classes: bool = True) -> list[EvalVideo]:
    """The small test set with scores that know a little."""
    random, videos = np.random.RandomState(seed), []
    for r in records(12, "b"):
        T = r.features.shape[1]
        truth = frame_level.frame_truth(r.segments, T)[::16]
        scores = (random.uniform(size=(2, T)) + 0.3 * truth).astype(np.float32)
        probabilities = random.dirichlet(np.ones(3), T).astype(np.float32)
        videos.append(
            EvalVideo(
                video=r.video,
                anomaly=scores[0],
                classes=probabilities if classes else None,
                segments=r.segments,
                num_frames=r.num_frames,
                label=r.label,
                extra={"align": scores[1]},
            )
        )
    return videos


def write_run(
    workdir: pathlib.Path, config: ConfigDict, dataset: str = "small", **changes
) -> pathlib.Path:
    """Writes config.json, results.json and scores.npz as a training leaves them."""
    videos = scored(config.seed)
    paper = config.protocol == "paper"
    results = frame_level.evaluate(videos, CARD.class_names) | {
        "model": config.model_name,
        "dataset": dataset,
        "seed": config.seed,
        "protocol": config.protocol,
        "selection": "best auc on test" if paper else "last weights",
        "checkpoint": "model",
        "step": 100,
        "versions": {"jax": "0.10"},
        "device": "cpu (1 × cpu)",
    }
    write_json(workdir / "results.json", results | changes)
    write_json(workdir / "config.json", comparable_config(config))
    arrays = {f"{v.video}/anomaly": v.anomaly for v in videos}
    arrays |= {f"{v.video}/classes": v.classes for v in videos}
    arrays |= {f"{v.video}/anomaly_align": v.extra["align"] for v in videos}
    np.savez_compressed(workdir / "scores.npz", **arrays)
    write_json(workdir / "curves.json", curves(videos, CARD.class_names), indent=None)
    return workdir
