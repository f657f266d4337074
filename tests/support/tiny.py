"""A dataset of a dozen short videos, and recipes that train on it in seconds."""

import csv
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsvad_jax import prepare
from wsvad_jax.clip.random_snapshot import write_random_snapshot
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.experiment.config import load_config

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
D = 32
CLASSES = ("Normal", "Fire", "Normal", "Fight")
VIDEOS = {"train": 12, "test": 6}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "dsanet": {
        "model.visual_layers": 1,
        "model.decoder_layers": 1,
        "model.decoder_heads": 2,
        "model.text_adapt_until": 1,
        "model.prototypes": 4,
    },
    "vadclip": {"model.visual_layers": 1},
    "clip_tsa": {"model.samples": 8, "model.kappa": 0.5},
    "mil_ranking": {},
}


def write_folder(folder: pathlib.Path) -> None:
    """A custom folder: features along a direction of their class, and truth."""
    r = np.random.RandomState(0)
    directions = {name: r.standard_normal(D) for name in CLASSES}
    (folder / "features").mkdir(parents=True)
    truth = []
    for split, count in VIDEOS.items():
        rows = [("video", "label")]
        for i in range(count):
            video, label, T = f"{split}{i}", CLASSES[i % 4], int(r.randint(8, 41))
            x = 0.4 * r.standard_normal((1, D)) + 0.25 * r.standard_normal((T, D))
            segments = []
            if label != "Normal":
                start = int(r.randint(0, T // 2))
                end = int(r.randint(start + 2, T + 1))
                x[start:end] += 0.5 * directions[label]
                segments = [[16 * start, 16 * end]]
            np.save(folder / "features" / f"{video}.npy", x.astype(np.float32))
            rows.append((video, label))
            if split == "test":
                truth.append({"video": video, "label": label, "segments": segments})
        with open(folder / f"{split}.csv", "w", newline="") as f:
            csv.writer(f).writerows(rows)
    (folder / "test_segments.json").write_text(json.dumps(truth))


class Tiny:
    """The prepared dataset and ways to train on it."""

    def __init__(self, root: pathlib.Path):
        write_folder(root / "own")
        self.root = root
        path = prepare.prepare(str(root / "own"), data_dir=str(root / "data"))
        self.path, self.clip = path, root / "clip"
        text = TextConfig(514, 32, 64, 1, 2, 77, D, eos_token_id=513)
        vision = VisionConfig(16, 8, 16, 32, 1, 2, D)
        write_random_snapshot(self.clip, text=text, vision=vision, seed=0)

    def flags(self, model: str = "dsanet", **changes: Any) -> list[str]:
        """Flags of a small recipe; `changes` are its keys with __ for dots."""
        keys = dict(SMALL[model])
        if model in ("dsanet", "vadclip"):
            keys["clip"] = self.clip
        for protocol in ("paper", "clean"):
            keys |= {
                f"{protocol}.batch_size": 4,
                f"{protocol}.eval_every_steps": "none",
            }
            how_long = {"epochs": 3} if keys.get("clip") else {"steps": 6}
            keys |= {f"{protocol}.{key}": value for key, value in how_long.items()}
        if keys.get("clip"):
            keys["clean.steps"] = "none"  # epochs count
        keys["clean.held_out"] = 0.1
        keys |= {"eval.batch_size": 8, "checkpoint_every_steps": 2}
        keys |= {key.replace("__", "."): value for key, value in changes.items()}
        recipe = f"--config={REPOSITORY}/configs/{model}.py:{self.path}"
        return [recipe, *(f"--config.{key}={value}" for key, value in keys.items())]

    def config(self, model: str = "dsanet", **changes: Any) -> Any:
        return load_config(self.flags(model, **changes))

    def start(self, *arguments: Any, program: str = "train", **environment: str):
        """Starts a program in a process of its own, with further flags of XLA."""
        if added := environment.get("XLA_FLAGS"):
            environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {added}"
        command = [sys.executable, "-m", f"wsvad_jax.{program}", *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
