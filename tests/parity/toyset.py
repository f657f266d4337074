"""The videos that the released test scripts were run on, as a custom folder.

Their numbers follow from a seed: features [T, 512] with an offset a video and noise,
raised along the direction of their class within one event.
"""

import csv
import json
import pathlib

import numpy as np

from wsvad_jax.data.cards import Card

SEED, VIDEOS, D = 7, 21, 512
# Windows of 256: full ones, a last one of a single snippet, hardly any snippets.
LENGTHS = (256, 512, 17, 700, 255, 257, 2)
SHORTEST = 8  # of a video with an event
RAISED = 0.3


def draw(card: Card):
    """Yields (class, features [T, 512], event in snippets or None) of each video."""
    r = np.random.RandomState(SEED)
    C = len(card.classes)
    directions = r.standard_normal((C, D))
    for i in range(VIDEOS):
        T = LENGTHS[i] if i < len(LENGTHS) else int(r.randint(20, 600))
        c, event = i % C, None
        offset = 0.4 * r.standard_normal((1, D))
        x = offset + 0.25 * r.standard_normal((T, D))
        if T < SHORTEST:
            c = 0
        if c:
            start = int(r.randint(0, T // 2))
            event = start, int(r.randint(start + 2, T + 1))
            x[slice(*event)] += RAISED * directions[c]
        yield c, x.astype(np.float16), event


def write(folder: pathlib.Path, card: Card) -> list[str]:
    """Writes the folder, with two videos to train on; returns the test videos."""
    features = folder / "features"
    features.mkdir(parents=True)
    names, rows, truth = [], [("video", "label")], []
    for i, (c, x, event) in enumerate(draw(card)):
        video, label = f"toy{i:02d}", card.class_names[c]
        np.save(features / f"{video}.npy", x)
        # Events begin and end inside a snippet, not at its edge.
        segments = [[16 * event[0] + 3, 16 * event[1] - 5]] if event else []
        truth.append({"video": video, "label": label, "segments": segments})
        rows.append((video, label))
        names.append(video)
    train = [("video", "label")]
    for c in (0, 1):  # a dataset has both sides; nothing is trained here
        np.save(features / f"train{c}.npy", np.zeros((4, D), np.float16))
        train.append((f"train{c}", card.class_names[c]))
    for split, lines in (("train", train), ("test", rows)):
        with open(folder / f"{split}.csv", "w", newline="") as f:
            csv.writer(f).writerows(lines)
    (folder / "test_segments.json").write_text(json.dumps(truth))
    own = {**card.to_json(), "name": f"toy_{card.name}", "test_crop": 0, "clip": ""}
    (folder / "card.json").write_text(json.dumps(own))
    return names
