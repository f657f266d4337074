"""Anomalies of the demo world: four classes, each with known times.

Every function adds people, cars and effects to a scene for the frames [start, stop).
`strength` in [0, 1] sets size and brightness: some events are obvious, others small,
far or dim.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from wsvad_jax.datasets.demo.figures import (
    FPS,
    Car,
    Drive,
    Motion,
    Number,
    Person,
    walking_motion,
)
from wsvad_jax.datasets.demo.scenes import Camera, Light, add_light, blend_colour

SMOKE, SOOT, DUST = (128, 126, 124), (46, 44, 44), (150, 138, 120)
FLAMES = ((255, 90, 20), (255, 150, 40), (255, 215, 110))


@runtime_checkable
class SceneState(Protocol):
    """Fields of a video's scene that events use."""

    camera: Camera
    frames: int
    night: bool
    rng: np.random.Generator
    actors: list
    effects: list


def trapezoid(
    n: int, start: Number, rise: Number, hold: Number, fall: Number
) -> np.ndarray:
    """Trapezoid over n frames: 0, up to 1 in `rise`, 1 for `hold`, down in `fall`."""
    ends = np.cumsum([start, max(rise, 1e-3), hold, max(fall, 1e-3)])
    return np.interp(np.arange(n), ends, [0, 1, 1, 0])


@dataclasses.dataclass
class SmokePuffs:
    """Soft blobs that rise, spread and fade: smoke, steam, dust."""

    start: int
    stop: int
    x: np.ndarray
    y: np.ndarray
    born: np.ndarray  # frame of birth
    life: np.ndarray  # frames until it is gone
    size: np.ndarray  # final radius in pixels
    rise: np.ndarray  # pixels per frame
    drift: np.ndarray
    colour: tuple
    alpha: Number

    def glow(self, light: Light, sources: Light, frame: int) -> None:
        """Adds nothing, since smoke emits no light."""

    def cover(self, picture: Light, light: Light, frame: int) -> None:
        age = (frame - self.born) / self.life
        for k in np.flatnonzero((age >= 0) & (age < 1)):
            a, t = age[k], frame - self.born[k]
            x, y = self.x[k] + self.drift[k] * t, self.y[k] - self.rise[k] * t
            r = self.size[k] * (0.25 + 0.75 * a)
            # A puff takes the light of the place it is at.
            row = light[int(np.clip(y, 0, 95)), int(np.clip(x, 0, 127))]
            colour = np.asarray(self.colour) * (0.25 + 0.75 * np.minimum(row, 1.2))
            blend_colour(picture, x, y, r, colour, self.alpha * (1 - a) * min(1, 6 * a))


def add_smoke(
    scene: SceneState,
    spot: tuple[Number, Number],
    start: int,
    stop: int,
    *,
    rate: Number,
    size: Number,
    colour: tuple = SMOKE,
    alpha: Number = 0.6,
    rise: Number = 0.5,
    spread: Number = 2.0,
    life: Number = 2.2,
) -> SmokePuffs:
    """Adds a plume of `rate` puffs per second from `spot`, gone by frame `stop`."""
    rng = scene.rng
    n = max(int(rate * (stop - start) / FPS), 1)
    # Every puff is born early enough to fade before the event ends.
    lives = life * FPS * rng.uniform(0.7, 1.3, n)
    born = start + rng.uniform(0, 1, n) * np.maximum(stop - start - lives, 1)

    plume = SmokePuffs(
        start=start,
        stop=stop,
        x=spot[0] + rng.normal(0, spread, n),
        y=spot[1] + rng.normal(0, spread / 2, n),
        born=born,
        life=np.minimum(lives, stop - born),
        size=size * rng.uniform(0.6, 1.3, n),
        rise=rise * rng.uniform(0.6, 1.4, n),
        drift=rng.normal(0.12, 0.12, n),
        colour=colour,
        alpha=alpha,
    )

    scene.effects.append(plume)
    return plume


@dataclasses.dataclass
class Fire:
    """Flames that flicker at a spot and light their surroundings."""

    start: int
    stop: int
    x: Number
    y: Number
    size: np.ndarray  # pixels, of each frame
    seed: int

    def glow(self, light: Light, sources: Light, frame: int) -> None:
        s = float(self.size[frame - self.start])
        if s < 0.5:
            return
        # Seeded by the frame, so a frame can be drawn without those before it.
        rng = np.random.default_rng([self.seed, frame])
        flicker = rng.uniform(0.75, 1.15)
        add_light(
            light, self.x, self.y, 4.2 * s, np.array((1.1, 0.5, 0.16)) * flicker, 0.7
        )

        for k in range(9):
            up = rng.uniform(0, 1.5) * s
            wide = 0.55 * s * (1.2 - up / (1.6 * s))
            x = self.x + rng.normal(0, 0.5) * wide
            colour = np.asarray(FLAMES[k % 3]) * rng.uniform(0.55, 1.0)
            add_light(sources, x, self.y - up, max(1.0, 0.75 * wide), colour, 1.5)

    def cover(self, picture: Light, light: Light, frame: int) -> None:
        """Covers nothing, since flames only emit light."""


@dataclasses.dataclass
class Blast:
    """Explosion: a flash, a fireball that grows and cools, and debris."""

    start: int
    stop: int
    x: Number
    y: Number
    size: Number
    debris: np.ndarray  # [pieces, 2] velocity, pixels per frame

    def glow(self, light: Light, sources: Light, frame: int) -> None:
        t = frame - self.start
        flash = np.exp(-t / 4.0)
        heat = np.exp(-t / 18.0)
        r = self.size * (1 - np.exp(-(t + 1) / 5.0))

        light += np.float32(0.9 * flash * min(self.size / 22, 1))
        add_light(light, self.x, self.y, 3.5 * r, np.array((1.6, 0.8, 0.3)) * heat, 0.8)

        # Four overlapping balls of three colours, the hottest inside.
        lift = 0.25 * t
        for dx, dy, k in (
            (0, 0, 1.0),
            (-0.4, 0.1, 0.7),
            (0.4, 0.05, 0.7),
            (0, -0.5, 0.8),
        ):
            x, y = self.x + dx * r, self.y - 0.4 * r - lift + dy * r
            for colour, part in zip(FLAMES, (1.0, 0.75, 0.45), strict=True):
                add_light(sources, x, y, part * k * r, np.asarray(colour) * heat * 0.8)

    def cover(self, picture: Light, light: Light, frame: int) -> None:
        t = frame - self.start
        if t > 2.5 * FPS:
            return
        # Pieces fly on parabolas until they reach the ground.
        for vx, vy in self.debris:
            x, y = self.x + vx * t, self.y + vy * t + 0.045 * t * t
            if y < self.y + 8:
                blend_colour(picture, x, y, 1, (30, 26, 24), 0.9)


def add_explosion(scene: SceneState, start: int, stop: int, strength: Number) -> None:
    """Adds an explosion: a flash, a fireball and smoke, from which people run."""
    rng, camera = scene.rng, scene.camera
    x, y = camera.fires[rng.integers(len(camera.fires))]
    size = 14 + 20 * strength

    angle = rng.uniform(-2.8, -0.3, 14)
    speed = rng.uniform(0.6, 2.6, 14) * (0.6 + 0.6 * strength)
    debris = np.stack([np.cos(angle) * speed, np.sin(angle) * speed], 1)
    scene.effects.append(Blast(start, stop, x, y, size, debris))

    # It burns on after the flash, so the whole event is visible.
    n = stop - start
    burning = size * 0.5 * trapezoid(n, 2, 6, 0.9 * n, 0.05 * n)
    scene.effects.append(Fire(start, stop, x, y, burning, int(rng.integers(1 << 30))))
    add_smoke(
        scene, (x, y - 4), start + 3, stop, rate=8 + 6 * strength, size=12 + 10 * strength,
        colour=SOOT, alpha=0.55, rise=0.75, spread=4, life=2.8,
    )  # fmt: skip

    for _ in range(int(rng.integers(1, 4))):
        add_runner(scene, x + rng.uniform(-14, 14), start + 4, stop)


def add_arson(scene: SceneState, start: int, stop: int, strength: Number) -> None:
    """Adds arson: a person sets a fire, which grows, smokes and is put out."""
    rng, camera = scene.rng, scene.camera
    x, y = camera.fires[rng.integers(len(camera.fires))]
    n = stop - start
    size = (6 + 10 * strength) * trapezoid(n, 0, 0.1 * n, 0.85 * n, 0.05 * n)
    scene.effects.append(Fire(start, stop, x, y, size, int(rng.integers(1 << 30))))
    add_smoke(
        scene, (x, y - 6), start + 6, stop, rate=5 + 4 * strength, size=9 + 9 * strength,
        colour=SOOT, alpha=0.5, rise=0.7, spread=2.5, life=2.6,
    )  # fmt: skip

    # The person stays for a quarter of the event, then walks out of view.
    ground = min(y + 3.0, 93.0)
    side = rng.choice([-1.0, 1.0])
    away = x + side * np.interp(np.arange(n), [0, 0.25 * n, n], [7, 9, 95])
    motion = walking_motion(
        away, np.full(n, ground), np.full(n, camera.height(ground)), rng
    )
    motion.arms[: n // 4, 1] = 1.1  # an arm towards the fire
    scene.actors.append(Person(motion, start, rng))


def add_fight(scene: SceneState, start: int, stop: int, strength: Number) -> None:
    """Adds a fight: four to six people strike, kick, fall and get up again."""
    rng, camera = scene.rng, scene.camera
    low, high = camera.walkways[-1 if rng.random() < 0.5 + strength else 0]
    y = rng.uniform(low, high)
    x = rng.uniform(40, 88)
    height = camera.height(y)

    # Pairs side by side, so strong fights look like a crowd; one person of each falls.
    pairs = 2 + int(rng.random() < 1.5 * strength)
    for k in range(pairs):
        middle = x + (k - (pairs - 1) / 2) * 0.95 * height + rng.normal(0, 1)
        ground = float(np.clip(y + rng.normal(0, 2), low, high))
        down = int(rng.integers(2))
        for side in (0, 1):
            motion = fighter_motion(
                scene, middle, ground, stop - start, side, side == down
            )
            scene.actors.append(Person(motion, start, rng))

    if strength > 0.4:
        add_smoke(
            scene, (x, y - 2), start + 8, stop, rate=5, size=0.5 * height,
            colour=DUST, alpha=0.35, rise=0.1, spread=0.4 * height, life=1.2,
        )  # fmt: skip


def fighter_motion(
    scene: SceneState, x: Number, y: Number, n: int, side: int, falls: bool
) -> Motion:
    """Motion of one of two people who fight face to face."""
    rng = scene.rng
    height, t = scene.camera.height(y), np.arange(n) / FPS
    facing = 1.0 if side == 0 else -1.0

    phase, rate = rng.uniform(0, 6.28, 3), rng.uniform(1.6, 2.4, 3)
    beat = np.sin(2 * np.pi * rate[:, None] * t + phase[:, None])
    lunge = 0.12 * height * np.clip(beat[0], -0.2, 1)

    # Standing still, with every pose replaced: arms strike in turn, one leg kicks.
    motion = walking_motion(np.full(n, x), np.full(n, y), np.full(n, height), rng)
    motion.x = x - facing * 0.3 * height + facing * lunge
    motion.facing = np.full(n, facing)
    motion.arms = np.stack([1.5 + 0.9 * beat[1], 1.7 - 0.9 * beat[1]], 1)
    motion.elbows = np.stack([0.5 - 0.5 * beat[1], 0.5 + 0.5 * beat[1]], 1)
    motion.legs = np.stack(
        [-0.45 + 0.2 * beat[2], 0.5 + 0.8 * np.clip(beat[2], 0, 1)], 1
    )
    motion.knees = np.stack([0.3 + 0 * t, 0.5 - 0.5 * np.clip(beat[2], 0, 1)], 1)
    motion.lean = 0.25 + 0.3 * beat[0]

    if falls:
        fall = trapezoid(n, rng.uniform(0.25, 0.5) * n, 6, 0.3 * n, 10)
        motion.roll = -1.45 * fall
        motion.arms *= (1 - 0.6 * fall)[:, None]

    return motion


def add_road_accident(
    scene: SceneState, start: int, stop: int, strength: Number
) -> None:
    """Adds a road accident: a car hits one that has stopped, and both smoke.

    The wrecks stay until the end of the video, or limp away if the event ends earlier.
    """
    rng, camera = scene.rng, scene.camera
    near = rng.random() < 0.75
    y, length, way = camera.lanes[-1 if near else 0]
    middle = 64 + rng.uniform(-16, 16)

    stays = stop >= scene.frames - 1
    lead = min(start, 3 * FPS)  # frames seen before the crash
    n = stop - start + lead
    t = np.arange(n) - lead

    # One car brakes and waits; the other arrives at speed. Both slide on after the hit.
    wait = middle + way * np.interp(t, [-lead, -lead * 0.45, 0], [-95, 8, 10])
    wait += way * 9 * (1 - np.exp(-np.clip(t, 0, None) / 5)) * (t > 0)
    speed = 2.4 + 1.4 * strength
    come = middle - way * 0.92 * length + way * np.minimum(t, 0) * speed
    come += way * 6 * (1 - np.exp(-np.clip(t, 0, None) / 6))

    # The second car spins, or overturns if it stays; the first is only pushed.
    over = rng.random() < 0.3 + 0.5 * strength and stays
    tilt = np.clip(t, 0, 11) / 11
    turns = (np.pi if over else 0.45 + 0.3 * strength) * tilt * rng.choice([-1.0, 1.0])
    nudge = -0.22 * tilt * (0.4 + 0.6 * strength)

    # Both limp away before the event ends.
    if not stays:
        leave = np.clip((t - (n - lead) * 0.85) / (n - lead) * 9, 0, 1)
        turns, nudge = turns * (1 - leave), nudge * (1 - leave)
        gone = (
            way * 150 * np.clip((t - (n - lead) * 0.88) / (n - lead) * 8.3, 0, 1) ** 2
        )
        come, wait = come + gone, wait + gone

    for x, angle, brake in ((wait, nudge, t < 0), (come, turns, t > -4)):
        drive = Drive(x, np.full(n, float(y)), angle, np.broadcast_to(brake, n))
        scene.actors.append(Car(drive, start - lead, length, way, scene.night, rng))

    # Sparks at the hit, a burning engine after a hard one, smoke and dust.
    spot = (middle, y - 0.25 * length)
    sparks = trapezoid(stop - start, 0, 1, 3, 6) * length * 0.22
    if strength > 0.65:  # the engine burns
        sparks = np.maximum(
            sparks, 0.14 * length * trapezoid(stop - start, 4, 20, 0.8 * n, 10)
        )

    seed = int(rng.integers(1 << 30))
    scene.effects.append(Fire(start, stop, middle, y - 4, sparks, seed))

    end = stop if stays else start + int(0.95 * (stop - start))
    add_smoke(
        scene, spot, start + 2, end, rate=10 + 5 * strength, size=13 + 9 * strength,
        colour=(70, 70, 74), alpha=0.6, rise=0.5, spread=5,
    )  # fmt: skip
    add_smoke(
        scene, (middle, y - 1), start, min(start + 2 * FPS, end), rate=6, size=10,
        colour=DUST, alpha=0.5, rise=0.15, spread=6, life=1.0,
    )  # fmt: skip


def add_runner(scene: SceneState, x: Number, start: int, stop: int) -> None:
    """Adds a person who runs out of view."""
    rng, camera = scene.rng, scene.camera
    low, high = camera.walkways[-1]
    y = rng.uniform(low, high)
    n, height = stop - start, camera.height(y)
    step = rng.choice([-1.0, 1.0]) * height * 1.9 / FPS
    path = x + step * np.arange(n)
    motion = walking_motion(path, np.full(n, y), np.full(n, height), rng)
    scene.actors.append(Person(motion, start, rng))


EVENTS = {
    "Arson": add_arson,
    "Explosion": add_explosion,
    "Fighting": add_fight,
    "RoadAccidents": add_road_accident,
}
