"""Random streets: views with other houses, roads and light than the demo's cameras.

A small CLIP learns from these streets (`pretraining`), so that it never sees the demo's
own street. Coordinates are pixels of the video (128 x 96), as in `scenes`.
"""

import dataclasses
import itertools

import numpy as np

from wsvad_jax.datasets.demo.figures import Number
from wsvad_jax.datasets.demo.scenes import (
    GLASS,
    HEIGHT,
    WIDTH,
    Camera,
    Canvas,
    draw_facade,
)

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class _Street:
    """Rows where a street's parts meet, and the colours of its surfaces."""

    wall: int  # foot of the houses
    kerb: int  # far pavement above, road below
    near: int  # road above, near pavement below
    sky: Colour
    road: Colour
    stone: Colour
    houses: tuple[tuple[int, int, int, Colour], ...]  # left, top, right, colour
    windows: tuple[Box, ...]
    trees: tuple[tuple[int, int, int], ...]  # x, foot, size
    posts: tuple[tuple[int, int], ...]  # x, top
    bin_x: int
    bin_colour: Colour
    lane_marks: bool

    def paint(self, sheet: Canvas) -> None:
        """Draws the empty street, from back to front."""
        sheet.slope(0, 32, self.sky, (214, 222, 228))
        for left, top, right, colour in self.houses:
            draw_facade(sheet, left, top, right, self.wall, colour)
        for x0, y0, x1, y1 in self.windows:
            sheet.box(x0 - 1, y0 - 1, x1 + 1, y1 + 1, (224, 219, 209))
            sheet.box(x0, y0, x1, y1, GLASS)

        # Far pavement, road, near pavement; each is lighter nearer to the camera.
        sheet.slope(self.wall, self.kerb, self.stone, _lighter(self.stone))
        sheet.slope(self.kerb, self.near, self.road, _lighter(self.road))
        sheet.box(0, self.kerb, WIDTH, self.kerb + 1, (200, 198, 190))
        if self.lane_marks:
            middle = (self.kerb + self.near) / 2
            for x in range(-6, WIDTH, 18):
                sheet.box(x, middle - 0.5, x + 9, middle + 0.5, (208, 204, 190))
        sheet.box(0, self.near, WIDTH, self.near + 1, (200, 198, 190))
        sheet.slope(self.near + 1, HEIGHT, self.stone, _lighter(self.stone))

        for x, foot, size in self.trees:
            sheet.tree(x, foot, size)
        for x, top in self.posts:
            sheet.post(x, top, self.kerb)
        sheet.box(
            self.bin_x, self.wall - 3, self.bin_x + 5, self.wall + 2, self.bin_colour
        )


def random_street(seed: int, number: int) -> Camera:
    """Returns the view of a random street, a pure function of the arguments."""
    rng = np.random.default_rng([seed, number, 4])
    street = _random_street(rng)
    wall, kerb, near = street.wall, street.kerb, street.near

    # Two lanes in opposite directions, the farther one with smaller cars.
    way, depth = int(rng.choice([-1, 1])), near - kerb
    lanes = (
        (kerb + 0.42 * depth, rng.uniform(30, 38), -way),
        (kerb + 0.92 * depth, rng.uniform(37, 45), way),
    )
    parked = ()
    if rng.random() < 0.6:
        parked = ((rng.uniform(35, 92), kerb + rng.uniform(3, 6), rng.uniform(28, 35)),)

    fires = [(rng.uniform(32, 96), rng.uniform(wall, kerb + 5)) for _ in range(5)]
    fires.append((street.bin_x + 2.5, wall + 2))

    return Camera(
        name="s" * int(rng.integers(3, 40)),  # seeds the grain of walls and ground
        paint=street.paint,
        scale=(rng.uniform(14, 18), rng.uniform(0.27, 0.4), wall + 2),
        walkways=((wall + 1, kerb - 1), (near + 2.0, 94.0)),
        lanes=lanes,
        parked=parked,
        lamps=tuple((x + 4, top + 1, kerb + 3) for x, top in street.posts),
        windows=street.windows,
        fires=tuple(fires),
        vent=(rng.uniform(35, 95), rng.uniform(wall + 10, 85)),
        sky=10,
    )


def _random_street(rng: np.random.Generator) -> _Street:
    wall = int(rng.integers(42, 56))
    kerb = wall + int(rng.integers(4, 10))
    near = kerb + int(rng.integers(17, 26))

    # One to four houses fill the width.
    cuts = np.sort(rng.choice(np.arange(20, 110, 10), int(rng.integers(0, 4)), False))
    edges = [0, *(int(c) for c in cuts), WIDTH]
    houses = tuple(
        (left, int(rng.integers(4, 24)), right, _colour(rng, 100, 215, 25))
        for left, right in itertools.pairwise(edges)
    )
    grey = rng.uniform(80, 120)

    return _Street(
        wall=wall,
        kerb=kerb,
        near=near,
        sky=_colour(rng, 150, 200, 15),
        road=_colour(rng, grey, grey, 3),
        stone=_colour(rng, 130, 195, 12),
        houses=houses,
        windows=tuple(w for h in houses for w in _windows(h, wall, rng)),
        trees=tuple(
            (int(rng.integers(WIDTH)), wall + 4, int(rng.integers(16, 30)))
            for _ in range(int(rng.integers(0, 3)))
        ),
        posts=tuple(
            (int(rng.integers(a, a + 24)), int(rng.integers(26, 34))) for a in (18, 88)
        ),
        bin_x=int(rng.integers(20, 100)),
        bin_colour=_colour(rng, 40, 130, 10),
        lane_marks=bool(rng.random() < 0.8),
    )


def _windows(house: tuple, wall: int, rng: np.random.Generator) -> list[Box]:
    """Returns a house's windows in rows, clear of its edges and of the ground."""
    left, top, right, _ = house
    width, height = int(rng.integers(4, 8)), int(rng.integers(5, 8))
    across, down = width + int(rng.integers(4, 8)), height + int(rng.integers(4, 7))
    return [
        (x, y, x + width, y + height)
        for y in range(top + 4, wall - 10 - height, down)
        for x in range(left + 3, right - 2 - width, across)
    ]


def _colour(
    rng: np.random.Generator, low: Number, high: Number, spread: Number
) -> Colour:
    """Returns a grey between `low` and `high` with a random tint."""
    r, g, b = (rng.uniform(low, high) + rng.normal(0, spread, 3)).clip(40, 235)
    return int(r), int(g), int(b)


def _lighter(colour: Colour) -> Colour:
    r, g, b = (min(c + 12, 245) for c in colour)
    return r, g, b
