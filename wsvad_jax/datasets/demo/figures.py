"""People and cars of the demo world, drawn from the side.

The movement of a figure is computed for all its frames at once, as arrays over n
frames; drawing a frame then takes a few Pillow calls. Positions are pixels of the
video. Pictures are drawn at `SCALE` times the size and averaged down. Angles are in
radians: 0 hangs straight down, positive points to the figure's front.
"""

import dataclasses
import itertools
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

SCALE = 2
FPS = 16

SKINS = ((236, 194, 160), (205, 150, 112), (150, 100, 70), (95, 62, 46))
HAIRS = ((40, 30, 25), (90, 60, 35), (150, 115, 60), (120, 120, 120), (25, 25, 30))
SHIRTS = (
    (70, 100, 160), (180, 60, 60), (60, 130, 90), (200, 190, 170), (120, 80, 140),
    (210, 150, 60), (50, 60, 80), (150, 160, 170), (205, 110, 60), (90, 150, 170),
)  # fmt: skip
TROUSERS = ((45, 50, 65), (85, 75, 60), (60, 70, 100), (110, 105, 95), (40, 40, 42))
CAR_COLOURS = (
    (190, 195, 200), (60, 65, 75), (160, 40, 40), (50, 80, 140), (225, 225, 220),
    (90, 110, 90), (215, 110, 40), (200, 170, 60), (110, 60, 50), (140, 150, 165),
)  # fmt: skip

# Lengths in units of a person's height.
THIGH, SHIN, TORSO, UPPER_ARM, FORE_ARM = 0.25, 0.23, 0.32, 0.17, 0.16
WALK = 0.8 / FPS  # speed in heights per frame
RUN = 1.9 / FPS

# Any number, Python's or NumPy's.
Number: TypeAlias = Any
Track = Float[np.ndarray, "n"]


@dataclasses.dataclass
class Motion:
    """Position and pose of a person in each of n frames; legs and arms are [n, 2]."""

    x: Track
    y: Track  # ground under the feet
    height: Track
    facing: Track  # +1 right, -1 left
    legs: np.ndarray
    knees: np.ndarray  # 0 straight, positive bends the shin back
    arms: np.ndarray
    elbows: np.ndarray  # positive bends the fore-arm forwards
    lean: Track  # forward lean of the torso
    roll: Track  # forward rotation of the body about the feet; ±1.5 is lying down

    def __len__(self) -> int:
        return len(self.x)


def walking_motion(
    x: Track, y: Track, height: Track, rng: np.random.Generator
) -> Motion:
    """Motion along a path, standing, walking or running by its speed."""
    n = len(x)
    vx, vy = np.gradient(x), np.gradient(y)
    speed = np.hypot(vx, 2 * vy) / height  # depth is foreshortened
    run = np.clip((speed - 1.3 * WALK) / (RUN - 1.3 * WALK), 0, 1)

    # The phase follows the distance covered, so feet don't slide over the ground.
    phase = rng.uniform(0, 6.28) + np.cumsum(2 * np.pi * speed / (0.85 + 0.75 * run))
    swing = (0.45 + 0.35 * run) * np.clip(speed / WALK, 0, 1)
    swing = _smooth(swing, 5)[:, None]

    both = np.stack([phase, phase + np.pi], 1)
    bend = 0.35 + 0.9 * run[:, None]

    return Motion(
        x=x,
        y=y,
        height=height,
        facing=_facing(vx, rng),
        legs=swing * np.sin(both),
        knees=swing * bend * 2 * np.clip(np.cos(both), 0, None) ** 2,
        arms=-0.8 * swing * np.sin(both),
        elbows=np.broadcast_to(0.2 + 1.3 * run[:, None], (n, 2)).copy(),
        lean=0.03 + 0.22 * run,
        roll=np.zeros(n),
    )


def _facing(vx: Track, rng: np.random.Generator) -> Track:
    """Direction of movement, kept while standing."""
    moving = np.flatnonzero(np.abs(vx) > 0.05)
    if not len(moving):
        return np.full(len(vx), rng.choice([-1.0, 1.0]))

    last = np.searchsorted(moving, np.arange(len(vx)), side="right") - 1
    return np.sign(vx[moving[last.clip(0)]])


def _smooth(x: Track, width: int) -> Track:
    padded = np.pad(x, width // 2, mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def joint_positions(m: Motion) -> Float[np.ndarray, "n 11 2"]:
    """Joint positions: neck, hip, head; knee and foot, elbow and hand of each side."""
    f, h = m.facing, m.height

    def limb(angle: Any, length: Number) -> np.ndarray:  # [n, 2], y upwards
        return length * np.stack([np.sin(angle) * f, -np.cos(angle)], -1)

    thighs = [limb(m.legs[:, s], THIGH) for s in (0, 1)]
    shins = [limb(m.legs[:, s] - m.knees[:, s], SHIN) for s in (0, 1)]

    # The lower foot stands on the ground, so the body bobs and crouches as it should.
    reach = np.minimum((thighs[0] + shins[0])[:, 1], (thighs[1] + shins[1])[:, 1])
    hip = np.stack([np.zeros_like(reach), -reach], -1)

    up = np.stack([np.sin(m.lean) * f, np.cos(m.lean)], -1)
    neck = hip + TORSO * up

    points = [neck, hip, neck + 0.11 * up]
    for s in (0, 1):
        points += [hip + thighs[s], hip + thighs[s] + shins[s]]

    shoulder = neck - 0.03 * up
    for s in (0, 1):
        elbow = shoulder + limb(m.arms[:, s] + m.lean * 0.5, UPPER_ARM)
        angle = m.arms[:, s] + m.lean * 0.5 + m.elbows[:, s]
        points += [elbow, elbow + limb(angle, FORE_ARM)]

    # Last, the whole body is rolled about the feet and put in its place.
    p = np.stack(points, 1)  # [n, 11, 2]
    sin, cos = np.sin(m.roll * f)[:, None], np.cos(m.roll)[:, None]
    x = p[..., 0] * cos + p[..., 1] * sin
    y = p[..., 1] * cos - p[..., 0] * sin + 0.06 * np.abs(sin)
    x = m.x[:, None] + x * h[:, None]
    y = m.y[:, None] - y * h[:, None]
    return SCALE * np.stack([x, y], -1)


class Person:
    """A person whose motion begins at frame `start`."""

    def __init__(self, motion: Motion, start: int, rng: np.random.Generator):
        self.start, self.stop = start, start + len(motion)
        self.motion = motion
        self.points = [
            [tuple(p) for p in frame] for frame in joint_positions(motion).tolist()
        ]
        self.depth = motion.y.tolist()
        # Widths follow the height, which changes with the distance from the camera.
        size = SCALE * motion.height
        self.widths = np.maximum(1, np.rint(size * 0.085)).astype(int).tolist()
        self.heads = (size * 0.075).tolist()
        self.visible = (np.abs(motion.x - 64) < 64 + motion.height).tolist()

        self.skin = SKINS[rng.integers(len(SKINS))]
        self.hair = HAIRS[rng.integers(len(HAIRS))]
        self.shirt = SHIRTS[rng.integers(len(SHIRTS))]
        self.trousers = TROUSERS[rng.integers(len(TROUSERS))]

    def draw(self, canvas: Any, frame: int) -> None:
        i = frame - self.start
        if not self.visible[i]:
            return

        neck, hip, head, knee0, foot0, knee1, foot1, elbow0, hand0, elbow1, hand1 = (
            self.points[i]
        )
        w, r = self.widths[i], self.heads[i]

        # The far arm and leg come first and are darker, the near ones last.
        shirt, trousers = darken(self.shirt, 0.72), darken(self.trousers, 0.72)
        canvas.line((neck, elbow0, hand0), shirt, w)
        canvas.line((hip, knee0, foot0), trousers, w + 1)
        canvas.line((hip, knee1, foot1), self.trousers, w + 1)
        canvas.line((neck, hip), self.shirt, 2 * w)

        x, y = head
        canvas.ellipse((x - r, y - 1.25 * r, x + r, y + r), self.hair)
        canvas.ellipse((x - r, y - 0.6 * r, x + r, y + 1.3 * r), self.skin)

        canvas.line((neck, elbow1, hand1), self.shirt, w)
        for x, y in (hand0, hand1):
            canvas.ellipse((x - w / 2, y - w / 2, x + w / 2, y + w / 2), self.skin)


def darken(colour: tuple, factor: Number) -> tuple:
    """Returns a colour darkened by `factor`."""
    return tuple(int(c * factor) for c in colour)


# Outlines in units of a car's length, x forwards, y upwards from the ground.
CAR_OUTLINES = {
    "sedan": {
        "body": ((-0.5, 0.09), (-0.5, 0.22), (-0.43, 0.26), (0.36, 0.25),
                 (0.48, 0.2), (0.5, 0.09)),
        "cabin": ((-0.36, 0.25), (-0.24, 0.4), (0.09, 0.4), (0.25, 0.24)),
        "rear": ((-0.3, 0.26), (-0.21, 0.375), (-0.07, 0.375), (-0.07, 0.26)),
        "front": ((-0.04, 0.26), (-0.04, 0.375), (0.075, 0.375), (0.19, 0.26)),
    },
    "van": {
        "body": ((-0.5, 0.09), (-0.5, 0.2), (0.5, 0.2), (0.5, 0.09)),
        "cabin": ((-0.5, 0.18), (-0.49, 0.47), (0.22, 0.47), (0.36, 0.28),
                  (0.5, 0.23), (0.5, 0.18)),
        "rear": ((-0.42, 0.3), (-0.42, 0.42), (-0.05, 0.42), (-0.05, 0.3)),
        "front": ((0.05, 0.28), (0.05, 0.42), (0.2, 0.42), (0.31, 0.28)),
    },
}  # fmt: skip
WHEELS, WHEEL = ((-0.3, 0.09), (0.3, 0.09)), 0.09
LAMPS = ((0.47, 0.17), (-0.48, 0.19))
GLASS, TYRE, HUB = (120, 150, 170), (28, 28, 30), (150, 150, 155)


@dataclasses.dataclass
class Drive:
    """Position and state of a car in each of n frames."""

    x: Track  # middle of the car
    y: Track  # ground under the car
    angle: Track  # positive is nose up; ±π is upside down
    brake: np.ndarray  # bool


class Car:
    """A car whose drive begins at frame `start`."""

    def __init__(
        self,
        drive: Drive,
        start: int,
        length: Number,
        facing: int,
        lights: bool,
        rng: np.random.Generator,
    ):
        self.start, self.stop = start, start + len(drive.x)
        self.drive, self.length, self.facing = drive, length, facing
        self.lights = lights

        self.kind = "van" if rng.random() < 0.25 else "sedan"
        self.paint = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]

        self.depth = drive.y.tolist()
        self.brake = drive.brake.tolist()
        self.visible = (np.abs(drive.x - 64) < 64 + length).tolist()

        # All outlines are placed in one array, then cut into parts again.
        names = ("body", "cabin", "rear", "front")
        parts = [CAR_OUTLINES[self.kind][name] for name in names]
        ends = np.cumsum([0] + [len(p) for p in parts])
        flat = np.array([p for part in parts for p in part] + [*WHEELS, *LAMPS])
        points = self._place(flat).tolist()
        self.points = [[tuple(p) for p in frame] for frame in points]
        self.slices = [slice(a, b) for a, b in itertools.pairwise(ends)]

    def _place(self, flat: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, "n P 2"]:
        d = self.drive
        sin, cos = np.sin(d.angle)[:, None], np.cos(d.angle)[:, None]

        u, v = flat[:, 0], flat[:, 1] - 0.2  # about the centre of mass
        x, y = u * cos - v * sin, u * sin + v * cos
        # Tyres reach below their centres. The lowest point of a tilted car touches the
        # ground.
        lowest = y[:, : -len(LAMPS)].copy()
        lowest[:, -len(WHEELS) :] -= WHEEL
        y = y - lowest.min(1, keepdims=True)

        x = d.x[:, None] + self.facing * self.length * x
        y = d.y[:, None] - self.length * y
        return SCALE * np.stack([x, y], -1)

    def draw(self, canvas: Any, frame: int) -> None:
        i = frame - self.start
        if not self.visible[i]:
            return

        p = self.points[i]
        # From back to front: cabin, body, windows, wheels, lamps.
        body, cabin, rear, front = (p[s] for s in self.slices)
        canvas.polygon(cabin, darken(self.paint, 0.9))
        canvas.polygon(body, self.paint)
        canvas.polygon(rear, GLASS)
        canvas.polygon(front, GLASS)

        r = SCALE * self.length * WHEEL
        for x, y in p[-4:-2]:
            canvas.ellipse((x - r, y - r, x + r, y + r), TYRE)
            canvas.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), HUB)

        r = max(1.0, 0.035 * SCALE * self.length)
        colours = (
            ((255, 250, 220) if self.lights else (225, 225, 215)),
            ((255, 40, 30) if self.brake[i] else (130, 25, 25)),
        )
        for (x, y), colour in zip(p[-2:], colours, strict=True):
            canvas.ellipse((x - r, y - r, x + r, y + r), colour)

    def lamp(self, frame: int) -> tuple[Number, Number]:
        """Position of the headlight in the video, in pixels."""
        x, y = self.points[frame - self.start][-2]
        return x / SCALE, y / SCALE
