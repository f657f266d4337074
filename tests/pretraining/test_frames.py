"""Frames of random streets: other streets than the demo's, and facts that hold."""

import numpy as np
import pytest

from wsvad_jax.datasets.demo import scenes, sights, world
from wsvad_jax.datasets.demo.events import EVENTS
from wsvad_jax.datasets.demo.streets import random_street
from wsvad_jax.pretraining.captions import ALL_FACTS
from wsvad_jax.pretraining.frames import MARGIN, draw_video
from wsvad_jax.pretraining.settings import KINDS


def test_a_street_is_a_function_of_its_number_and_unlike_the_demos():
    views = [np.asarray(scenes.background(random_street(0, k)), int) for k in (1, 1, 2)]
    np.testing.assert_array_equal(views[0], views[1])
    demo = np.asarray(scenes.background(scenes.CAMERAS[0]), int)
    for other in (views[2], demo):
        assert np.abs(views[0] - other).mean() > 10


def test_a_video_is_a_function_of_its_number():
    first, again, other = (draw_video(k, seed=0) for k in (3, 3, 4))
    np.testing.assert_array_equal(first.pictures, again.pictures)
    np.testing.assert_array_equal(first.facts, again.facts)
    assert first.pictures.shape[1:] == (96, 96 + 2 * MARGIN, 3)
    assert first.facts.shape == (len(first.pictures), len(ALL_FACTS))
    assert not np.array_equal(first.pictures[0], other.pictures[0])


def test_a_class_can_be_left_out():
    """The street and its normal life stay as they are."""
    whole = next(
        (k, video)
        for k in range(20)
        if (video := draw_video(k, 0)).facts[:, ALL_FACTS.index("dust")].mean() > 0.1
        and k % 4 == 2
    )
    left = draw_video(whole[0], 0, without="Fighting")
    assert left.pictures.shape == whole[1].pictures.shape
    dust = ALL_FACTS.index("dust")
    assert left.facts[:, dust].sum() < whole[1].facts[:, dust].sum()


def test_the_kinds_are_those_of_the_demo():
    assert set(KINDS) == set(EVENTS)


@pytest.mark.parametrize("number", range(3))
def test_facts_that_exclude_each_other(number):
    for row in draw_video(number, seed=1).facts:
        seen = {f for f, holds in zip(ALL_FACTS, row, strict=True) if holds}
        for group in (
            ("no people", "one person", "two people", "several people", "crowd"),
            ("no cars", "one car", "several cars"),
            ("no flames", "small flames", "large flames"),
            scenes.HOURS,
        ):
            assert len(seen & set(group)) == 1
        if "no people" in seen:
            assert not seen & {"person walks", "person on the ground", "arms raised"}
        if "no cars" in seen:
            assert not seen & {"car drives", "car waits", "cars touch"}


@pytest.mark.parametrize(
    ("category", "fact", "least"),
    [
        ("Arson", "dark smoke", 0.5),
        ("Explosion", "dark smoke", 0.5),
        ("Fighting", "arms raised", 0.9),
        ("RoadAccidents", "grey smoke", 0.5),
    ],
)
def test_what_an_event_shows(category, fact, least):
    """The facts are seen inside the event, and rarely outside of it."""
    inside, outside = [], []
    for k in range(4):
        plan = world.plan_video("test", k, category, seed=5)
        scene = world.Scene(plan, 5)
        for frame in range(0, plan.frames, 8):
            event = [e for e in plan.events if e.start + 12 <= frame < e.stop - 12]
            near = any(e.start - 48 <= frame < e.stop for e in plan.events)
            seen = fact in sights.visible_facts(scene, frame)
            if any(e.category == category for e in event):
                inside.append(seen)
            elif not near:
                outside.append(seen)
    assert np.mean(inside) >= least
    assert np.mean(outside) < 0.5 * np.mean(inside)
