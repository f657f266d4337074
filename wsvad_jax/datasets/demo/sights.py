"""What can be seen in a frame of the demo world, read from the scene's geometry.

`visible_facts` says things such as "arms raised", "cars touch" or "dark smoke". It never
looks at the events' classes: a raised arm is a raised arm in a fight and in a greeting.
"""

from collections.abc import Iterable

import numpy as np

from wsvad_jax.datasets.demo.events import DUST, Blast, Fire, SmokePuffs
from wsvad_jax.datasets.demo.figures import WALK, Car, Person
from wsvad_jax.datasets.demo.scenes import HEIGHT, WIDTH
from wsvad_jax.datasets.demo.world import Scene

# Columns of the centre crop: what is outside of them isn't seen by an image tower.
LEFT = (WIDTH - HEIGHT) // 2
RIGHT = WIDTH - LEFT

STANDING, RUNNING = 0.12 * WALK, 1.35 * WALK  # heights per frame
RAISED = 1.1  # radians from hanging down
BENT, LYING = 0.42, 0.9  # radians from upright
WAITING = 0.3  # pixels per frame
TILTED, OVER = 0.2, 2.2  # radians from level
SMALL_FIRE, LARGE_FIRE = 1.5, 9.0  # pixels

FACTS = (
    "no people", "one person", "two people", "several people", "crowd",
    "person walks", "person runs", "person stands", "arms raised", "person bends",
    "person on the ground", "people close", "people embrace",
    "no cars", "one car", "several cars",
    "car drives", "car waits", "cars touch", "car tilted", "car upside down",
    "no flames", "small flames", "large flames", "flash", "pieces in the air",
    "no smoke", "dark smoke", "grey smoke", "dust", "steam",
)  # fmt: skip


def visible_facts(scene: Scene, frame: int) -> frozenset[str]:
    """Returns the facts of `FACTS` that hold in a frame's centre crop."""
    here = [a for a in scene.actors if a.start <= frame < a.stop]
    people = [a for a in here if isinstance(a, Person) and _person_in_view(a, frame)]
    cars = [a for a in here if isinstance(a, Car) and _car_in_view(a, frame)]
    effects = [e for e in scene.effects if e.start <= frame < e.stop]
    return frozenset(
        {
            *_people_facts(people, frame),
            *_car_facts(cars, frame),
            *_effect_facts(effects, frame),
        }
    )


def _person_in_view(person: Person, frame: int) -> bool:
    x = float(person.motion.x[frame - person.start])
    return LEFT + 1 <= x <= RIGHT - 1


def _car_in_view(car: Car, frame: int) -> bool:
    margin = 0.2 * car.length
    x = float(car.drive.x[frame - car.start])
    return bool(LEFT - margin <= x <= RIGHT + margin)


def _speed(x: np.ndarray, i: int) -> float:
    """Pixels per frame around index i."""
    before, after = max(i - 1, 0), min(i + 1, len(x) - 1)
    return abs(float(x[after] - x[before])) / max(after - before, 1)


def _people_facts(people: list[Person], frame: int) -> Iterable[str]:
    n = len(people)
    yield (
        "no people" if n == 0 else "one person" if n == 1 else "two people" if n == 2
        else "several people" if n <= 4 else "crowd"
    )  # fmt: skip

    upright = []
    for person in people:
        m, i = person.motion, frame - person.start
        speed = _speed(m.x, i) / float(m.height[i])
        if abs(m.roll[i]) > LYING:
            yield "person on the ground"
            continue

        upright.append((float(m.x[i]), float(m.y[i]), float(m.height[i])))
        if speed > RUNNING:
            yield "person runs"
        elif speed > STANDING:
            yield "person walks"
        else:
            yield "person stands"
        # The hand is up where the arm and the bent fore-arm together point upwards.
        if np.max(m.arms[i] + 0.5 * m.elbows[i]) > RAISED:
            yield "arms raised"
        if abs(m.lean[i]) > BENT:
            yield "person bends"

    for k, (x, y, height) in enumerate(upright):
        for x2, y2, _ in upright[k + 1 :]:
            if abs(y - y2) < 4 and abs(x - x2) < 0.75 * height:
                yield "people close"
                if abs(x - x2) < 0.45 * height:
                    yield "people embrace"


def _car_facts(cars: list[Car], frame: int) -> Iterable[str]:
    n = len(cars)
    yield "no cars" if n == 0 else "one car" if n == 1 else "several cars"

    places = []
    for car in cars:
        d, i = car.drive, frame - car.start
        places.append((float(d.x[i]), float(d.y[i]), float(car.length)))
        yield "car drives" if _speed(d.x, i) > WAITING else "car waits"
        if abs(d.angle[i]) > OVER:
            yield "car upside down"
        elif abs(d.angle[i]) > TILTED:
            yield "car tilted"

    # Cars of one lane; those of different lanes only overlap in the picture.
    for k, (x, y, length) in enumerate(places):
        for x2, y2, _ in places[k + 1 :]:
            if abs(y - y2) < 2 and abs(x - x2) < 1.02 * length:
                yield "cars touch"


def _effect_facts(effects: list, frame: int) -> Iterable[str]:
    flames, smoke = 0.0, False
    for effect in effects:
        if isinstance(effect, Fire):
            flames = max(flames, float(effect.size[frame - effect.start]))
        elif isinstance(effect, Blast):
            age = frame - effect.start
            if age < 8:
                yield "flash"
            if 2 <= age < 30:
                yield "pieces in the air"
            flames = max(flames, effect.size * np.exp(-age / 18.0))
        elif isinstance(effect, SmokePuffs) and _puffs_in_view(effect, frame) >= 2:
            kind = _smoke_kind(effect.colour)
            smoke |= kind != "steam"
            yield kind

    yield (
        "large flames" if flames > LARGE_FIRE
        else "small flames" if flames > SMALL_FIRE else "no flames"
    )  # fmt: skip
    if not smoke:
        yield "no smoke"


def _puffs_in_view(puffs: SmokePuffs, frame: int) -> int:
    age = (frame - puffs.born) / puffs.life
    x = puffs.x + puffs.drift * (frame - puffs.born)
    # Young and old puffs are too small or too pale to be seen.
    return int(np.sum((age > 0.08) & (age < 0.75) & (x > LEFT) & (x < RIGHT)))


def _smoke_kind(colour: tuple) -> str:
    """Names a plume by its colour alone."""
    if tuple(colour) == DUST:
        return "dust"
    brightness = sum(colour) / 3
    if brightness < 60:
        return "dark smoke"
    return "grey smoke" if brightness < 180 else "steam"
