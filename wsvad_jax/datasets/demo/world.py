"""Renders the videos of the demo world: fixed cameras in public places.

`render` draws a video frame by frame, as a pure function of its `Plan`. Normal life
contains distractors for a detector: people who meet and hug, joggers, cars that brake
and wait, headlights, lamps that are switched, and steam.
"""

import dataclasses
import os
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ImageDraw

from wsvad_jax.datasets.demo.events import EVENTS, add_smoke, trapezoid
from wsvad_jax.datasets.demo.figures import (
    FPS,
    RUN,
    WALK,
    Car,
    Drive,
    Number,
    Person,
    walking_motion,
)
from wsvad_jax.datasets.demo.recorder import PLAIN, Recorder
from wsvad_jax.datasets.demo.scenes import (
    CAMERAS,
    HEIGHT,
    HOURS,
    SCALE,
    WIDTH,
    Camera,
    add_light,
    background,
    daylight,
)
from wsvad_jax.utils.files import atomic_path

NORMAL = "Normal"
SECONDS = (20, 60)  # shortest and longest video
EVENT_SECONDS = (3, 12)  # shortest and longest event


@dataclasses.dataclass(frozen=True)
class SceneEvent:
    """An anomaly in the frames [start, stop)."""

    category: str
    start: int
    stop: int
    strength: Number


@dataclasses.dataclass(frozen=True)
class VideoPlan:
    """Content of a video: its view, length, events and recorder."""

    video: str
    camera: int
    hour: str
    frames: int
    events: tuple[SceneEvent, ...]
    recorder: Recorder = PLAIN

    @property
    def label(self) -> str:
        """The classes of the video's events, joined by '+'."""
        return "+".join(dict.fromkeys(e.category for e in self.events)) or NORMAL


def plan_video(split: str, number: int, category: str, seed: int) -> VideoPlan:
    """Plans a video with a first event of `category`, or a normal one."""
    video = f"{category}_{split}_{number:03d}"
    rng = np.random.default_rng([seed, zlib.crc32(video.encode())])

    seconds = int(SECONDS[0] + (SECONDS[1] - SECONDS[0]) * rng.beta(1, 3.5))
    frames = seconds * FPS + int(rng.integers(FPS))

    # Some videos have a second event, of the same class or another.
    events: list[SceneEvent] = []
    if category != NORMAL:
        events.append(_plan_event(category, frames, 0, rng))
        left = frames - events[0].stop
        if left > (EVENT_SECONDS[0] + 5) * FPS and rng.random() < 0.4:
            second = category
            if rng.random() < 0.5:
                second = sorted(EVENTS)[rng.integers(len(EVENTS))]
            events.append(_plan_event(second, frames, events[0].stop + 2 * FPS, rng))

    hour = HOURS[rng.choice(3, p=(0.95, 0.05, 0.0))]
    return VideoPlan(video, 0, hour, frames, tuple(events))


def _plan_event(category: str, frames: int, earliest: int, rng) -> SceneEvent:
    room = frames - earliest - 2 * FPS
    # An event leaves normal life before and after it.
    n = int(min(rng.uniform(*EVENT_SECONDS), 0.6 * room / FPS) * FPS)
    n = max(n, EVENT_SECONDS[0] * FPS)
    start = earliest + FPS + int(rng.integers(max(room - n, 1)))
    stop = min(start + n, frames)

    if category == "RoadAccidents" and frames - stop < 4 * FPS:
        stop = frames  # the wreck stays in view until the video ends
        start = max(start, stop - EVENT_SECONDS[1] * FPS)

    return SceneEvent(category, start, stop, float(rng.uniform(0.6, 1)))


class Scene:
    """A view with the people, cars and effects of one video, drawn frame by frame."""

    def __init__(self, plan: VideoPlan, seed: int, camera: Camera | None = None):
        """Adds normal life and the plan's events to a view.

        Args:
          plan: the video's content.
          seed: seed of all random choices.
          camera: the view; None is the plan's own of `CAMERAS`.
        """
        self.camera: Camera = CAMERAS[plan.camera] if camera is None else camera
        self.frames, self.night = plan.frames, plan.hour == "night"

        key = zlib.crc32(plan.video.encode())
        self.rng = np.random.default_rng([seed, key, 1])
        self.actors: list = []
        self.effects: list = []

        self.light, self.sources = daylight(self.camera, plan.hour, self.rng)
        self.gain = self._gain(plan.hour)

        # The noise is drawn once. Each frame reads it from a random offset, since
        # drawing it for every frame took a third of the time.
        noise = np.random.default_rng([seed, key, 2])
        self.noise = 2.5 * noise.standard_normal(1 << 18, np.float32)

        _add_normal_life(self)
        for event in plan.events:
            EVENTS[event.category](self, event.start, event.stop, event.strength)

    def _gain(self, hour: str) -> np.ndarray:
        """Exposure of every frame: clouds, the camera's drift, a switched lamp."""
        t = np.arange(self.frames)
        # Slow changes of exposure, which carry no event.
        slow = np.sin(2 * np.pi * t / (self.rng.uniform(15, 50) * FPS))
        gain = 1 + self.rng.uniform(0.01, 0.04) * slow

        if self.rng.random() < 0.1:  # the sun comes out, or a lamp is switched on
            start = self.rng.uniform(0, 0.8) * self.frames
            hold = self.rng.uniform(2, 6) * FPS
            gain = gain + self.rng.uniform(0.05, 0.15) * trapezoid(
                self.frames, start, 4, hold, 8
            )

        return gain.astype(np.float32)

    def draw(self, frame: int) -> UInt8[np.ndarray, "96 128 3"]:
        """Draws one frame."""
        image = background(self.camera).copy()
        canvas = ImageDraw.Draw(image)

        # Painter's algorithm: the farthest first.
        present = [a for a in self.actors if a.start <= frame < a.stop]
        for actor in sorted(present, key=lambda a: a.depth[frame - a.start]):
            actor.draw(canvas, frame)
        picture = np.asarray(image.reduce(SCALE), np.float32)

        # A frame is drawing · light + sources. Smoke covers the lit drawing, but not
        # the fire.
        light, sources = self.light.copy(), self.sources.copy()
        for actor in present:
            if isinstance(actor, Car) and actor.lights:
                x, y = actor.lamp(frame)
                add_light(
                    light, x + 12 * actor.facing, y + 3, 15, (0.5, 0.5, 0.42), 0.45
                )
                add_light(sources, x, y, 2, (190, 185, 150))

        active = [e for e in self.effects if e.start <= frame < e.stop]
        for effect in active:
            effect.glow(light, sources, frame)
        picture *= light
        for effect in active:
            effect.cover(picture, light, frame)
        picture += sources

        # The camera's exposure and noise.
        picture *= self.gain[frame]
        offset = int(self.rng.integers(len(self.noise) - picture.size))
        picture += self.noise[offset : offset + picture.size].reshape(picture.shape)
        return picture.clip(0, 255).astype(np.uint8)


def render(plan: VideoPlan, seed: int) -> Iterator[UInt8[np.ndarray, "96 128 3"]]:
    """Yields the frames of a video, as a pure function of the arguments."""
    scene = Scene(plan, seed)
    for frame in range(plan.frames):
        picture = scene.draw(frame)
        yield plan.recorder.record(picture, frame, FPS, plan.video, seed)


def write_video(plan: VideoPlan, path: str | os.PathLike, seed: int) -> None:
    """Renders a video to an H.264 mp4 file, written whole or not at all."""
    import av

    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # One thread, so the bytes don't depend on the number of cores.
        stream.options = {"preset": "veryfast", "crf": "23", "threads": "1"}
        for picture in render(plan, seed):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _add_normal_life(scene: Scene) -> None:
    """Adds people, cars and steam of normal life to a scene."""
    rng, camera = scene.rng, scene.camera
    seconds = scene.frames / FPS
    busy = rng.uniform(0.2, 0.6)

    # Walkers and joggers, whose speed overlaps with that of people who flee.
    for _ in range(rng.poisson(busy * seconds / 5) + 1):
        _add_walker(scene, WALK * rng.uniform(0.6, 1.25))
    for _ in range(rng.poisson(busy * seconds / 25)):
        _add_walker(scene, RUN * rng.uniform(0.8, 1.1))
    # Meetings resemble fights: people close together who move their arms.
    for _ in range(rng.poisson(busy * seconds / 22)):
        _add_meeting(scene)

    # Traffic on every lane, with gaps that shrink on a busy street.
    for y, length, way in camera.lanes:
        start = int(rng.uniform(-4, 6) * FPS)
        while start < scene.frames:
            start += _add_passing_car(scene, start, y, length, way)
            start += int(rng.exponential(7 / busy) * FPS) + FPS

    for x, y, length in camera.parked:
        if rng.random() < 0.9:
            still = np.full(scene.frames, float(x) + rng.normal(0, 1))
            drive = Drive(still, np.full(scene.frames, float(y)), 0 * still, still < 0)
            way = int(rng.choice([-1, 1]))
            scene.actors.append(Car(drive, 0, length, way, False, rng))

    # Steam resembles smoke.
    if rng.random() < 0.25:
        start = int(rng.uniform(0, 0.6) * scene.frames)
        stop = min(start + int(rng.uniform(4, 10) * FPS), scene.frames)
        add_smoke(
            scene, camera.vent, start, stop, rate=2.5, size=8,
            colour=(214, 216, 218), alpha=0.35, rise=0.45,
        )  # fmt: skip


def _add_walker(scene: Scene, speed: Number) -> None:
    """Adds a person who crosses the view and may stop on the way."""
    rng, camera = scene.rng, scene.camera
    low, high = camera.walkways[rng.integers(len(camera.walkways))]
    y = rng.uniform(low, high)
    height = camera.height(y)
    way = rng.choice([-1.0, 1.0])

    pace = speed * height
    n = int((WIDTH + 2 * height) / pace)
    steps = np.full(n, pace)
    # A stop in mid-view: a still person is normal as well.
    if rng.random() < 0.25:
        n += 4 * FPS
        steps = pace * (1 - trapezoid(n, rng.uniform(0.2, 0.6) * n, 8, 3 * FPS, 8))

    x = np.cumsum(steps) - height
    x = x if way > 0 else WIDTH - x
    drift = y + rng.uniform(-1, 1) * np.linspace(0, 1, n) * (high - low) * 0.3
    drift = np.clip(drift, low, high)

    start = int(rng.uniform(-0.3, 0.95) * scene.frames)
    motion = walking_motion(x, drift, camera.height(drift), rng)
    scene.actors.append(Person(motion, start, rng))


def _add_meeting(scene: Scene) -> None:
    """Adds people who meet, talk with gestures, may hug, and part."""
    rng, camera = scene.rng, scene.camera
    low, high = camera.walkways[rng.integers(len(camera.walkways))]
    y, x = rng.uniform(low, high), rng.uniform(30, 98)
    height = camera.height(y)
    n = int(rng.uniform(7, 15) * FPS)
    start = int(rng.uniform(-0.1, 0.9) * scene.frames)
    hug = rng.random() < 0.4

    # Person k comes from one side, stands at a distance of `gap`, and leaves.
    for k in range(int(rng.integers(2, 5))):
        side = 1.0 if k % 2 else -1.0
        gap = side * height * ((0.2 if hug else 0.36) + 0.3 * (k // 2))
        come = rng.uniform(2, 3) * FPS
        path = np.interp(
            np.arange(n), [0, come, n - come, n], [side * 80, gap, gap, -side * 75]
        )
        ground = float(np.clip(y + 1.5 * (k // 2), low, high))
        motion = walking_motion(x + path, np.full(n, ground), np.full(n, height), rng)

        # While they talk, gestures replace the gait: arms up in a hug, moving
        # otherwise.
        talk = trapezoid(n, come, 4, n - 2 * come - 8, 4)[:, None]
        t = np.arange(n)[:, None] / FPS
        beat = np.sin(2 * np.pi * rng.uniform(0.4, 1.0) * t + rng.uniform(0, 6, (1, 2)))
        wave = 1.2 + 0 * beat if hug else 0.35 + 0.35 * beat
        motion.arms = motion.arms * (1 - talk) + talk * wave
        motion.elbows = motion.elbows * (1 - talk) + talk * (0.5 if hug else 0.9)

        here = talk[:, 0] > 0.5
        motion.facing = np.where(here, -side, motion.facing)
        scene.actors.append(Person(motion, start, rng))


def _add_passing_car(
    scene: Scene, start: int, y: Number, length: Number, way: int
) -> int:
    """Adds a car that drives through and may brake and wait.

    Returns the number of frames until the next car may follow.
    """
    rng = scene.rng
    speed = rng.uniform(1.0, 2.4)
    n = int((WIDTH + 2 * length) / speed)
    steps = np.full(n, speed)

    # A car that waits resembles one after an accident.
    if rng.random() < 0.25:
        wait = rng.uniform(2, 5) * FPS
        n += int(wait) + 24
        slow = trapezoid(n, rng.uniform(0.25, 0.5) * n * 0.6, 14, wait, 14)
        steps = speed * (1 - slow)

    x = np.cumsum(steps) - length
    x = x if way > 0 else WIDTH - x
    braking = np.gradient(np.pad(steps, (0, max(n - len(steps), 0)))) < -0.01

    drive = Drive(x, np.full(len(x), float(y)), np.zeros(len(x)), braking[: len(x)])
    car = Car(drive, start, length * rng.uniform(0.95, 1.05), way, scene.night, rng)
    scene.actors.append(car)
    return len(x) // 2
