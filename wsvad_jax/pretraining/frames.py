"""Frames of random streets, with the facts that can be seen in each.

Pictures are drawn directly, without a video file. All are pure functions of a seed and a
video's number, so a set can be drawn by any number of processes.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, UInt8

from wsvad_jax.datasets.demo.events import EVENTS
from wsvad_jax.datasets.demo.figures import FPS
from wsvad_jax.datasets.demo.scenes import HEIGHT, HOURS
from wsvad_jax.datasets.demo.sights import LEFT, visible_facts
from wsvad_jax.datasets.demo.streets import random_street
from wsvad_jax.datasets.demo.world import NORMAL, Scene, plan_video
from wsvad_jax.pretraining.captions import ALL_FACTS, RAIN
from wsvad_jax.utils.processes import run_in_pool

STREETS = 80
EVERY = FPS // 2  # frames between two pictures of a video
MARGIN = 8  # columns beside the centre crop, for random shifts
NORMAL_RATE = 0.5  # share of videos in which nothing unusual happens, as in the demo
HOUR_RATES = (0.74, 0.13, 0.13)  # of HOURS
RAIN_RATE = 0.1


@dataclasses.dataclass(frozen=True)
class Frames:
    """Pictures with a margin of `MARGIN` columns on each side, and their facts."""

    pictures: UInt8[np.ndarray, "N 96 112 3"]
    facts: Bool[np.ndarray, "N F"]  # in the order of ALL_FACTS


def draw_frames(videos: int, seed: int, without: str = "") -> Frames:
    """Draws the frames of `videos` videos, two per second of each.

    Args:
      videos: number of videos.
      seed: seed of all random choices.
      without: class of events that is left out; "" for none.
    """
    calls = [(number, seed, without) for number in range(videos)]
    parts = run_in_pool(draw_video, calls, "drawing streets", "video")
    return Frames(
        np.concatenate([p.pictures for p in parts]),
        np.concatenate([p.facts for p in parts]),
    )


def draw_video(number: int, seed: int, without: str = "") -> Frames:
    """Draws the frames of one video, a pure function of the arguments."""
    rng = np.random.default_rng([seed, number, 5])

    # The demo's own planner: normal life and events, but in another street and light.
    kinds = sorted(EVENTS)
    category = NORMAL if rng.random() < NORMAL_RATE else kinds[number % len(kinds)]
    plan = plan_video("street", number, category, seed)
    plan = dataclasses.replace(
        plan,
        hour=HOURS[rng.choice(3, p=HOUR_RATES)],
        events=tuple(e for e in plan.events if e.category != without),
    )
    scene = Scene(plan, seed, random_street(seed, int(rng.integers(STREETS))))
    rainy = rng.random() < RAIN_RATE

    pictures, facts = [], []
    for frame in range(int(rng.integers(EVERY)), plan.frames, EVERY):
        picture = scene.draw(frame)[:, LEFT - MARGIN : LEFT + HEIGHT + MARGIN]
        pictures.append(_rain(picture, rng) if rainy else picture)
        seen = visible_facts(scene, frame) | {plan.hour} | ({RAIN} if rainy else set())
        facts.append([fact in seen for fact in ALL_FACTS])

    return Frames(np.stack(pictures), np.array(facts, bool))


def _rain(
    picture: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Adds pale streaks, 3 to 7 pixels long."""
    streaks = np.zeros(picture.shape[:2], np.float32)
    columns = rng.integers(picture.shape[1], size=140)
    rows = rng.integers(picture.shape[0], size=140)
    for x, y in zip(columns, rows, strict=True):
        streaks[y : y + int(rng.integers(3, 8)), x] = 0.35
    return (picture + streaks[..., None] * (225.0 - picture)).astype(np.uint8)
