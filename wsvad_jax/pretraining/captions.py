"""Captions that say what can be seen in a frame, never what happens there.

A caption joins one or two facts of `sights.FACTS`. It is true of a picture if all of its
facts hold there. No phrase names a class of the demo or a synonym of one: nobody fights,
nothing explodes, no fire is set and no car crashes in these words.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Bool

from wsvad_jax.datasets.demo.scenes import HOURS
from wsvad_jax.datasets.demo.sights import FACTS

RAIN = "rain"
ALL_FACTS = (*FACTS, *HOURS, RAIN)

# Several wordings of each fact. A fact without an entry is never said alone.
PHRASES: Mapping[str, tuple[str, ...]] = {
    "no people": ("nobody", "no people", "a street without people"),
    "one person": ("a person", "one person", "somebody"),
    "two people": ("two people", "a pair of people"),
    "several people": ("several people", "a few people", "three or four people"),
    "crowd": ("many people", "a crowd", "a group of people"),
    "person walks": (
        "a person walking", "people walking", "somebody walking", "a pedestrian",
        "pedestrians on the pavement",
    ),
    "person runs": (
        "a person running", "somebody running", "people running", "a runner", "a jogger",
    ),
    "person stands": ("a person standing", "somebody standing still", "people standing"),
    "arms raised": (
        "raised arms", "a person with raised arms", "arms in the air",
        "people with their arms up",
    ),
    "person bends": ("a person bent forward", "somebody bending down", "bent people"),
    "person on the ground": (
        "a person lying on the ground", "somebody lying on the ground",
        "a person on the ground", "a body lying down",
    ),
    "people close": (
        "people close together", "two people face to face", "people side by side",
    ),
    "people embrace": ("people hugging", "two people hugging", "an embrace"),
    "no cars": ("no cars", "a street without cars", "an empty road"),
    "one car": ("a car", "one car", "a vehicle"),
    "several cars": ("two cars", "several cars", "traffic"),
    "car drives": ("a car driving", "a car driving by", "a moving car"),
    "car waits": ("a car standing still", "a waiting car", "a stopped car"),
    "cars touch": (
        "two cars touching", "cars that touch", "a car against another car",
        "two cars bumper to bumper",
    ),
    "car tilted": ("a tilted car", "a car at an angle", "a car with its nose up"),
    "car upside down": (
        "a car upside down", "a car on its roof", "a car with its wheels in the air",
    ),
    "no flames": ("no flames", "no fire"),
    "small flames": ("small flames", "a small fire", "flames", "a fire"),
    "large flames": ("large flames", "a large fire", "flames", "a fire", "a ball of fire"),
    "flash": ("a bright flash", "a flash of light", "glaring light"),
    "pieces in the air": ("pieces flying through the air", "flying pieces"),
    "no smoke": ("clear air", "no smoke"),
    "dark smoke": ("dark smoke", "black smoke", "thick smoke", "smoke"),
    "grey smoke": ("grey smoke", "smoke", "smoke over the road"),
    "dust": ("dust", "a cloud of dust", "dust in the air"),
    "steam": ("steam", "white steam", "steam over the ground"),
    "day": ("in daylight", "by day"),
    "dusk": ("at dusk", "in the evening"),
    "night": ("at night", "in the dark"),
    RAIN: ("in the rain", "on a rainy day"),
}  # fmt: skip

# "a fire" and "smoke" are said of either kind, and are then true of both.
WIDER = {
    "flames": ("small flames", "large flames"),
    "a fire": ("small flames", "large flames"),
    "smoke": ("dark smoke", "grey smoke"),
}

# People speak of what stands out. The weight is relative to plain facts, which have 1.
SALIENCE = {
    "arms raised": 3, "person bends": 2, "person on the ground": 6, "people close": 2,
    "people embrace": 3, "person runs": 3, "car waits": 2, "cars touch": 6,
    "car tilted": 4, "car upside down": 8, "small flames": 4, "large flames": 4,
    "flash": 10, "pieces in the air": 4, "dark smoke": 4, "grey smoke": 4, "dust": 6,
    "steam": 4, "no flames": 0.3, "no smoke": 0.3,
}  # fmt: skip
SETTINGS = (*HOURS, RAIN)  # facts that follow a caption: "... at night"
SETTING_RATE, SECOND_RATE, PREFIX_RATE = 0.2, 0.45, 0.15
PREFIXES = ("a picture of ", "a photo of ", "a view of ")


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and the sets of facts that it says: one of each set must hold."""

    text: str
    needs: tuple[tuple[str, ...], ...]

    def true_of(self, facts: Iterable[str]) -> bool:
        """Says whether the caption is true of a picture with these facts."""
        known = set(facts)
        return all(known & set(either) for either in self.needs)


def caption(facts: Iterable[str], rng: np.random.Generator) -> Caption:
    """Returns a random caption that is true of a picture with these facts.

    Args:
      facts: names of `ALL_FACTS` that hold.
      rng: source of all choices.
    """
    known = sorted(facts)
    things = [f for f in known if f not in SETTINGS]
    weights = np.array([SALIENCE.get(f, 1.0) for f in things])
    count = 1 + int(rng.random() < SECOND_RATE and len(things) > 1)
    chosen = rng.choice(len(things), count, replace=False, p=weights / weights.sum())

    words, needs = [], []
    for fact in (things[i] for i in chosen):
        phrase = PHRASES[fact][rng.integers(len(PHRASES[fact]))]
        words.append(phrase)
        needs.append(WIDER.get(phrase, (fact,)))
    text = " and ".join(words)

    settings = [f for f in known if f in SETTINGS]
    if settings and rng.random() < SETTING_RATE:
        fact = settings[rng.integers(len(settings))]
        text += f" {PHRASES[fact][rng.integers(len(PHRASES[fact]))]}"
        needs.append((fact,))
    if rng.random() < PREFIX_RATE:
        text = PREFIXES[rng.integers(len(PREFIXES))] + text
    return Caption(text, tuple(needs))


def truth_table(
    captions: Iterable[Caption], facts: Bool[np.ndarray, "N F"]
) -> Bool[np.ndarray, "N K"]:
    """Says which of K captions are true of which of N pictures.

    Args:
      captions: the K captions.
      facts: one row per picture, one column per fact in the order of `ALL_FACTS`.
    """
    column = {fact: i for i, fact in enumerate(ALL_FACTS)}
    rows = []
    for one in captions:
        true = np.ones(len(facts), bool)
        for either in one.needs:
            true &= facts[:, [column[f] for f in either]].any(axis=1)
        rows.append(true)
    return np.stack(rows, axis=1)
