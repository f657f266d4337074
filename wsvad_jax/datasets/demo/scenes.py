"""Views of the demo world: three fixed cameras, their props and their light.

Coordinates are pixels of the video (128 x 96). A frame is
`drawing * light + light sources`, so night, lamps, headlights and fire look as in
front of a real camera.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

from wsvad_jax.datasets.demo.figures import SCALE, Number, darken

WIDTH, HEIGHT = 128, 96
HOURS = ("day", "dusk", "night")

Light = Float32[np.ndarray, "96 128 3"]


@dataclasses.dataclass(frozen=True)
class Camera:
    """A fixed view, with the positions and sizes of things in it."""

    name: str
    paint: Callable[["Canvas"], None]
    scale: tuple[Number, Number, Number]  # a person at ground y is a + b (y - c) tall
    walkways: tuple[tuple[Number, Number], ...]  # ranges of ground y
    lanes: tuple[tuple[Number, Number, int], ...]  # ground y, car length, direction
    parked: tuple[tuple[Number, Number, Number], ...]  # x, ground y, length of bays
    lamps: tuple[
        tuple[Number, Number, Number], ...
    ]  # x, y of the lamp, y of the ground
    windows: tuple[tuple[int, int, int, int], ...]  # x0, y0, x1, y1
    fires: tuple[tuple[Number, Number], ...]  # spots of fires
    vent: tuple[Number, Number]  # spot of steam
    sky: int  # number of rows of sky

    def height(self, y: Any) -> Any:
        """Returns the height in pixels of a person who stands at ground y."""
        a, b, c = self.scale
        return a + b * (y - c)


class Canvas:
    """A drawing in video coordinates, on an image `SCALE` times as large."""

    def __init__(self, image: Image.Image):
        self.image, self.canvas = image, ImageDraw.Draw(image)

    def box(
        self, x0: Number, y0: Number, x1: Number, y1: Number, colour: tuple
    ) -> None:
        s = SCALE
        corners = (s * x0, s * y0, s * x1 - 1, s * y1 - 1)
        self.canvas.rectangle(corners, colour)

    def disc(self, x: Number, y: Number, rx: Number, ry: Number, colour: tuple) -> None:
        s = SCALE
        corners = (s * (x - rx), s * (y - ry), s * (x + rx), s * (y + ry))
        self.canvas.ellipse(corners, colour)

    def shape(self, colour: tuple, *points: tuple[Number, Number]) -> None:
        self.canvas.polygon([(SCALE * x, SCALE * y) for x, y in points], colour)

    def line(self, colour: tuple, width: int, *points: tuple[Number, Number]) -> None:
        self.canvas.line([(SCALE * x, SCALE * y) for x, y in points], colour, width)

    def slope(self, y0: int, y1: int, top: tuple, bottom: tuple) -> None:
        """Fills rows with a vertical gradient."""
        for y in range(SCALE * y0, SCALE * y1):
            t = (y / SCALE - y0) / max(y1 - y0, 1)
            colour = tuple(
                int(a + t * (b - a)) for a, b in zip(top, bottom, strict=True)
            )
            self.canvas.line((0, y, SCALE * WIDTH, y), colour)

    def tree(self, x: Number, y: Number, size: Number) -> None:
        self.line((92, 70, 50), max(2, int(size / 4)), (x, y), (x, y - 0.6 * size))
        for dx, dy, r in ((0, 0.85, 0.34), (-0.25, 0.7, 0.26), (0.25, 0.72, 0.27)):
            green = (62, 104, 58) if dx == 0 else (74, 118, 66)
            self.disc(x + dx * size, y - dy * size, r * size, r * size, green)

    def post(self, x: Number, y0: Number, y1: Number) -> None:
        self.line((70, 72, 78), 3, (x, y1), (x, y0))
        self.line((70, 72, 78), 3, (x, y0), (x + 4, y0))
        self.box(x + 2, y0, x + 6, y0 + 1.5, (235, 232, 215))


GLASS, WALL_LINE = (112, 134, 152), 0.88


def draw_facade(sheet: Canvas, x0: int, y0: int, x1: int, y1: int, wall: tuple) -> None:
    """Draws the front of a house, with its roof line and its foot."""
    sheet.box(x0, y0, x1, y1, wall)
    sheet.box(x0, y0, x1, y0 + 2, darken(wall, WALL_LINE))
    sheet.box(x0, y1 - 1, x1, y1, darken(wall, 0.7))


def _draw_street(sheet: Canvas) -> None:
    # Sky and houses
    sheet.slope(0, 30, (142, 182, 222), (205, 220, 232))
    draw_facade(sheet, 0, 8, 40, 54, (172, 128, 104))
    draw_facade(sheet, 40, 14, 84, 54, (196, 184, 160))
    draw_facade(sheet, 84, 5, 128, 54, (140, 146, 156))

    for x0, y0, x1, y1 in STREET_WINDOWS:
        sheet.box(x0 - 1, y0 - 1, x1 + 1, y1 + 1, (225, 220, 210))
        sheet.box(x0, y0, x1, y1, GLASS)

    # A shop with its awning, and doors
    sheet.box(44, 38, 80, 41, (150, 52, 48))
    sheet.box(47, 42, 62, 54, (96, 112, 124))
    sheet.box(66, 42, 74, 54, (84, 62, 50))
    sheet.box(14, 43, 22, 54, (70, 54, 46))
    sheet.box(102, 42, 112, 54, (62, 66, 74))

    # Far pavement, road with its markings, near pavement
    sheet.slope(54, 60, (158, 154, 148), (172, 168, 160))
    sheet.slope(60, 83, (92, 93, 97), (104, 105, 108))
    sheet.box(0, 60, 128, 61, (200, 198, 190))
    for x in range(-4, 128, 16):
        sheet.box(x, 70.5, x + 8, 71.5, (210, 206, 190))
    sheet.box(0, 82, 128, 83.5, (200, 198, 190))
    sheet.slope(84, 96, (166, 162, 155), (180, 176, 168))
    for x in range(-30, 160, 14):
        sheet.line((150, 146, 140), 1, (x, 84), (64 + (x - 64) * 1.25, 96))

    sheet.tree(92, 58, 24)
    sheet.post(30, 30, 59)
    sheet.post(116, 30, 59)
    sheet.box(36.5, 54, 40, 59, (58, 76, 62))  # a bin


def _draw_plaza(sheet: Canvas) -> None:
    # Sky, and a town hall with pillars between two houses
    sheet.slope(0, 34, (160, 196, 228), (222, 226, 226))
    draw_facade(sheet, 0, 20, 26, 42, (186, 160, 128))
    draw_facade(sheet, 104, 16, 128, 42, (158, 120, 112))
    draw_facade(sheet, 28, 14, 102, 42, (206, 198, 180))
    sheet.shape((176, 164, 144), (26, 14), (65, 4), (104, 14))
    sheet.disc(65, 10.5, 3, 3, (240, 238, 230))

    for x in range(33, 100, 9):
        sheet.box(x, 18, x + 2.5, 42, (226, 220, 206))
    for x0, y0, x1, y1 in PLAZA_WINDOWS:
        sheet.box(x0, y0, x1, y1, GLASS)

    # Road, and paving in perspective
    sheet.slope(42, 54, (98, 98, 102), (106, 106, 110))
    sheet.box(0, 53, 128, 54, (206, 204, 196))
    sheet.slope(54, 96, (190, 178, 158), (206, 194, 172))
    for x in range(-110, 240, 22):
        sheet.line((176, 164, 146), 1, (64 + (x - 64) * 0.55, 54), (x, 96))
    for y in (57, 61, 66, 73, 82, 93):
        sheet.line((176, 164, 146), 1, (0, y), (128, y))

    sheet.tree(9, 58, 26)
    # A fountain
    sheet.disc(26, 64, 11, 3.6, (150, 146, 140))
    sheet.disc(26, 63.4, 9.4, 2.6, (120, 166, 186))
    sheet.box(25, 55, 27, 63, (160, 156, 150))
    sheet.disc(26, 55, 4, 1.4, (150, 180, 196))

    # A kiosk with its striped awning
    sheet.box(97, 48, 115, 62, (120, 84, 60))
    sheet.box(99, 53, 113, 58, (70, 56, 48))
    for k, x in enumerate(range(95, 117, 2)):
        stripe = (222, 126, 48) if k % 2 else (238, 228, 208)
        sheet.shape(stripe, (x, 50), (x + 2, 50), (x + 1.5, 46), (x + 0.5, 46))

    sheet.post(56, 32, 58)
    sheet.post(90, 40, 72)


def _draw_car_park(sheet: Canvas) -> None:
    # Sky, and a supermarket with its sign
    sheet.slope(0, 20, (174, 190, 206), (214, 218, 220))
    draw_facade(sheet, 0, 18, 128, 46, (178, 180, 176))
    sheet.box(0, 18, 128, 27, (52, 92, 128))
    sheet.box(44, 20, 84, 25.5, (236, 236, 226))
    for x in range(47, 82, 5):
        sheet.box(x, 21.2, x + 3.2, 24.4, (178, 48, 44))

    for x0, y0, x1, y1 in PARK_WINDOWS:
        sheet.box(x0, y0, x1, y1, GLASS)
        sheet.box((x0 + x1) / 2 - 0.5, y0, (x0 + x1) / 2 + 0.5, y1, (150, 152, 150))
    sheet.box(58, 31, 72, 46, (88, 108, 122))
    sheet.box(64.5, 31, 65.5, 46, (150, 152, 150))

    # Pavement, and parking bays along a lane
    sheet.slope(46, 50, (164, 162, 156), (170, 168, 162))
    sheet.slope(50, 96, (98, 98, 100), (116, 115, 114))
    for x in range(-12, 150, 29):
        sheet.line((214, 212, 204), 2, (x, 50), (x - 5, 61))
    sheet.line((196, 186, 120), 2, (0, 76), (128, 76))
    sheet.shape((196, 196, 190), (20, 69), (30, 69), (30, 67.5), (34, 70), (30, 72.5),
                (30, 71), (20, 71))  # fmt: skip

    sheet.post(4, 26, 64)
    sheet.post(110, 26, 50)
    sheet.box(36, 42, 42, 50, (70, 92, 72))  # a container
    sheet.box(35.5, 41, 42.5, 42.5, (52, 70, 56))


STREET_WINDOWS = (
    *((x, y, x + 5, y + 7) for y in (14, 26) for x in (5, 15, 25)),
    *((x, 20, x + 6, 30) for x in (46, 58, 70)),
    *((x, y, x + 6, y + 5) for y in (10, 19, 28) for x in (89, 100, 111)),
)
PLAZA_WINDOWS = (
    *((x, y, x + 4, y + 7) for y in (20, 31) for x in range(36, 98, 9)),
    *((x, y, x + 4, y + 5) for y in (25, 34) for x in (4, 15, 109, 119)),
)
PARK_WINDOWS = tuple((x, 31, x + 14, 42) for x in (4, 22, 40, 76, 94, 112))

CAMERAS = (
    Camera(
        "street", _draw_street, (17, 0.31, 57), ((55.5, 59), (85, 93)),
        ((69, 35, -1), (80, 43, 1)), ((60, 66, 33),),
        ((34, 31, 62), (120, 31, 62)), STREET_WINDOWS,
        ((38, 59), (70, 54), (56, 66), (92, 58)), (74, 76), 10,
    ),
    Camera(
        "plaza", _draw_plaza, (14, 0.4, 54), ((56, 70), (70, 92)),
        ((47.5, 25, -1), (52.5, 28, 1)), ((72, 47, 24),),
        ((60, 33, 60), (94, 41, 75)), PLAZA_WINDOWS,
        ((104, 62), (64, 50), (44, 76), (80, 68)), (44, 80), 12,
    ),
    Camera(
        "park", _draw_car_park, (15, 0.36, 50), ((47, 50), (62, 92)),
        ((74, 35, -1), (85, 41, 1)), ((14, 59, 25), (43, 59, 25), (72, 59, 25),
                                      (101, 59, 25)),
        ((8, 27, 68), (114, 27, 54)), PARK_WINDOWS,
        ((39, 50), (43, 59), (72, 59), (65, 46)), (88, 66), 16,
    ),
)  # fmt: skip


@functools.lru_cache(maxsize=8)
def background(camera: Camera) -> Image.Image:
    """Draws a camera's empty view, with the grain of walls and ground."""
    image = Image.new("RGB", (SCALE * WIDTH, SCALE * HEIGHT))
    camera.paint(Canvas(image))
    grain = np.random.default_rng(len(camera.name)).normal(
        0, 3, (SCALE * HEIGHT, SCALE * WIDTH, 1)
    )
    grain[: SCALE * camera.sky] = 0
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


@functools.lru_cache(maxsize=64)
def soft_disc(radius: int, squash: Number = 1.0) -> Float32[np.ndarray, "h w"]:
    """Soft disc, 1 in the middle and 0 at `radius` pixels."""
    rows = max(1, round(radius * squash))
    y, x = np.mgrid[-rows : rows + 1, -radius : radius + 1]
    d = np.clip(1 - (x / (radius + 0.5)) ** 2 - (y / (rows + 0.5)) ** 2, 0, 1)
    return (d * d * (3 - 2 * d)).astype(np.float32)


def clip_to_frame(
    x: Number, y: Number, kernel: Float32[np.ndarray, "h w"]
) -> tuple[tuple[slice, slice], Float32[np.ndarray, "a b"]] | None:
    """Clips a kernel centred at (x, y) to the frame.

    Returns its slices of the frame and the visible part, or None if nothing is visible.
    """
    h, w = kernel.shape
    top, left = round(y) - h // 2, round(x) - w // 2
    y0, y1 = max(top, 0), min(top + h, HEIGHT)
    x0, x1 = max(left, 0), min(left + w, WIDTH)
    if y0 >= y1 or x0 >= x1:
        return None
    part = kernel[y0 - top : y1 - top, x0 - left : x1 - left]
    return (slice(y0, y1), slice(x0, x1)), part


def add_light(
    light: Light,
    x: Number,
    y: Number,
    radius: Number,
    colour: Any,
    squash: Number = 1.0,
) -> None:
    """Adds a round, soft patch of light."""
    place = clip_to_frame(x, y, soft_disc(max(1, round(radius)), squash))
    if place is not None:
        where, part = place
        light[where] += part[..., None] * np.asarray(colour, np.float32)


def blend_colour(
    frame: Light, x: Number, y: Number, radius: Number, colour: Any, alpha: Number
) -> None:
    """Blends a round, soft patch of colour into a frame, as smoke, steam or dust."""
    place = clip_to_frame(x, y, soft_disc(max(1, round(radius))))
    if place is not None:
        where, part = place
        part = alpha * part[..., None]
        frame[where] += part * (np.asarray(colour, np.float32) - frame[where])


def daylight(
    camera: Camera, hour: str, rng: np.random.Generator
) -> tuple[Light, Light]:
    """Returns the light that falls on a view, and its light sources."""
    light = np.empty((HEIGHT, WIDTH, 3), np.float32)
    sources = np.zeros_like(light)

    # Each recording differs a little in exposure; one side is always lighter.
    tint = {
        "day": (1.0, 1.0, 0.98), "dusk": (0.74, 0.58, 0.52), "night": (0.2, 0.22, 0.3)
    }[hour]  # fmt: skip
    light[:] = np.array(tint, np.float32) * rng.uniform(0.97, 1.03)
    light *= 1 + 0.06 * np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :, None]
    if hour == "day":
        return light, sources
    # Lit windows and street lamps
    lit = rng.random(len(camera.windows)) < (0.5 if hour == "dusk" else 0.4)
    for (x0, y0, x1, y1), on in zip(camera.windows, lit, strict=True):
        if on:
            sources[y0:y1, x0:x1] += np.array((150, 118, 60), np.float32)

    power = 0.35 if hour == "dusk" else 0.75
    for x, y, ground in camera.lamps:
        add_light(light, x, ground, 34, np.array((1.0, 0.85, 0.6)) * power, 0.6)
        add_light(
            light, x, (y + ground) / 2, 22, np.array((0.5, 0.42, 0.3)) * power, 1.2
        )
        add_light(sources, x, y, 4, (230, 205, 150))

    return light, sources
