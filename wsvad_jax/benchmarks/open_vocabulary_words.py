"""Words at test time of `benchmark open_vocabulary`.

  own                   the card's prompts
  other_words           prompts of the same meaning, from a card of paraphrases
  shuffled              each anomaly class has the prompts of another one
  shuffled_with_normal  the same, with the normal class among them: it has the prompts of
                        an anomaly class, and one of these has its prompts

Shuffles are drawn from a fixed seed, and metrics are averaged over them. No class keeps
its prompts.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.data.cards import Card
    from wsvad_jax.experiment.build import Experiment

OWN, OTHER = "own", "other_words"
SHUFFLED, WITH_NORMAL = "shuffled", "shuffled_with_normal"
SEED = 0
ENUMERATED = 5040  # with more permutations than that, shuffles are drawn

Order = tuple[int, ...]  # class whose prompts each class has


@dataclasses.dataclass(frozen=True)
class WordsAtTest:
    """Words that a model reads at test time; several orders are averaged."""

    name: str
    texts: "tuple[TextInputs, ...]"
    orders: tuple[Order, ...] = ()


def shuffled_orders(
    classes: int, count: int, *, with_normal: bool, seed: int = SEED
) -> tuple[Order, ...]:
    """Returns distinct orders of the classes in which none keeps its place.

    There may be fewer than `count`: two classes have a single such order. Without the
    normal class, a single anomaly class has none.

    Args:
      classes: number of classes, the normal one first.
      count: number of orders.
      with_normal: whether the normal class takes part.
      seed: seed of the draw.
    """
    first = 0 if with_normal else 1
    moving = list(range(first, classes))
    random = np.random.default_rng(seed)

    # Few classes: all orders are listed, so that none is drawn twice.
    if math.factorial(len(moving)) <= ENUMERATED:
        every = [p for p in itertools.permutations(moving) if _moves(p, first)]
        chosen = random.permutation(len(every))[:count]
        return tuple((*range(first), *every[i]) for i in sorted(chosen))

    # More than a third of all permutations qualify, and equal draws are improbable.
    orders: list[Order] = []
    while len(orders) < count:
        drawn = tuple(int(i) for i in random.permutation(moving))
        order = (*range(first), *drawn)
        if _moves(drawn, first) and order not in orders:
            orders.append(order)
    return tuple(orders)


def _moves(permutation: Sequence[int], first: int) -> bool:
    return all(i != old for i, old in enumerate(permutation, first))


def in_order(text: "TextInputs", order: Order) -> "TextInputs":
    """Returns prompts in which class i has those of class `order[i]`."""
    rows = np.asarray(text.class_from_prompt)[list(order)]
    return dataclasses.replace(text, class_from_prompt=rows)


def list_words(
    experiment: "Experiment", paraphrases: "Card | None", shuffles: int
) -> list[WordsAtTest]:
    """Returns the words at test time; `own` comes first.

    Args:
      experiment: opened recipe of a model that reads text.
      paraphrases: card of other words; None leaves `other_words` out.
      shuffles: number of orders per kind of shuffle.
    """
    from wsvad_jax.experiment.build import open_text

    text, card = experiment.text, experiment.dataset.card
    assert text is not None
    words = [WordsAtTest(OWN, (text,))]

    # Paraphrases name the same classes in the same order, see `benchmark_words`.
    if paraphrases is not None:
        dataset = dataclasses.replace(experiment.dataset, card=paraphrases)
        other, _ = open_text(experiment.config, dataset)
        words.append(WordsAtTest(OTHER, (other,)))

    for name, with_normal in ((SHUFFLED, False), (WITH_NORMAL, True)):
        orders = shuffled_orders(len(card.classes), shuffles, with_normal=with_normal)
        if orders:
            texts = tuple(in_order(text, order) for order in orders)
            words.append(WordsAtTest(name, texts, orders))
    return words
