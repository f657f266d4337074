"""The conditions of `benchmark text`: what a model reads in training and at test time.

  trained           the recipe as it is
  permuted          trained and tested with the anomaly prompts in other places: each
                    class is described by another class's words
  permuted_at_test  the trained model, with the prompts in other places at test time alone
  paraphrased       the trained model, with other words of the same meaning at test time
  random_tower      trained and tested with a text tower of random weights
  held_out CLASS    trained without a class and its videos; its words are added at test
                    time

Every condition is scored on the whole test set.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsvad_jax.data.cards import Card, ClassCard
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Dataset
    from wsvad_jax.experiment.build import Experiment

TRAINED, PERMUTED, PERMUTED_AT_TEST = "trained", "permuted", "permuted_at_test"
PARAPHRASED, RANDOM_TOWER, HELD_OUT = "paraphrased", "random_tower", "held_out"
NAMES = (TRAINED, PERMUTED, PERMUTED_AT_TEST, PARAPHRASED, RANDOM_TOWER, HELD_OUT)


@dataclasses.dataclass(frozen=True)
class TextCondition:
    """A training, and the words that its models read at test time."""

    kind: str  # one of NAMES
    words: Card  # prompts at test time
    held_out: str = ""  # class that is left out of the training

    @property
    def name(self) -> str:
        return f"{self.kind} {self.held_out}".strip()

    @property
    def training(self) -> str:
        """Name of the training; conditions of equal trainings share their models."""
        shares = (TRAINED, PERMUTED_AT_TEST, PARAPHRASED)
        return TRAINED if self.kind in shares else self.name.replace(" ", "-")


def permuted(card: Card) -> Card:
    """Returns a card in which each anomaly class has the prompts of the next one.

    Raises:
      InputError: there is a single anomaly class.
    """
    normal, *others = card.classes
    if len(others) < 2:
        raise InputError(
            f"{card.name}: permuted prompts need at least two anomaly classes, found "
            f"{', '.join(c.name for c in others)}; leave permuted and permuted_at_test out "
            "of --conditions"
        )

    # A rotation: no class keeps its prompts.
    moved = [
        ClassCard(c.name, other.prompts)
        for c, other in zip(others, [*others[1:], others[0]], strict=True)
    ]
    return dataclasses.replace(card, classes=(normal, *moved))


def list_conditions(
    dataset: "Dataset",
    kinds: Sequence[str],
    held_out: Sequence[str],
    paraphrases: Card | None,
) -> list[TextCondition]:
    """Returns the conditions of a dataset; `trained` comes first.

    Args:
      dataset: prepared dataset.
      kinds: names of conditions.
      held_out: classes to hold out, one condition each; ('all',) for every class that
        test videos show.
      paraphrases: card of paraphrased prompts; None leaves that condition out.

    Raises:
      InputError: a class that can't be held out.
    """
    card = dataset.card
    words = {TRAINED: card, RANDOM_TOWER: card, PARAPHRASED: paraphrases}
    if {PERMUTED, PERMUTED_AT_TEST} & set(kinds):
        words |= dict.fromkeys((PERMUTED, PERMUTED_AT_TEST), permuted(card))

    chosen = [k for k in NAMES if k in {TRAINED, *kinds}]
    conditions = []
    for kind in chosen:
        if kind == HELD_OUT:
            classes = _classes_to_hold_out(dataset, held_out)
            conditions += [TextCondition(kind, card, name) for name in classes]
        elif (other := words[kind]) is not None:
            conditions.append(TextCondition(kind, other))
    return conditions


def _classes_to_hold_out(dataset: "Dataset", asked: Sequence[str]) -> list[str]:
    from wsvad_jax.data.class_changes import classes_shown

    shown = classes_shown(dataset, "test")[1:]
    classes = shown if tuple(asked) == ("all",) else list(dict.fromkeys(asked))
    for name in classes:
        if name not in shown:
            raise InputError(
                f"--held_out {name}: test videos of {dataset.card.name} show no such "
                f"class; expected all, none or some of {', '.join(shown)}"
            )
    if classes and len(dataset.card.classes) < 3:
        raise InputError(
            f"--held_out {classes[0]}: {dataset.card.name} has no other anomaly class "
            "to train with; pass --held_out none"
        )
    return classes


def training_experiment(base: "Experiment", condition: TextCondition) -> "Experiment":
    """Returns the experiment that trains a condition's models.

    Args:
      base: opened recipe.
      condition: condition whose training is wanted.
    """
    from wsvad_jax.data.class_changes import with_card, without_class
    from wsvad_jax.experiment.build import open_text

    if condition.training == TRAINED:
        return base
    config, dataset = base.config, base.dataset

    if condition.kind == PERMUTED:
        dataset = with_card(dataset, condition.words)
    elif condition.kind == RANDOM_TOWER:
        config = config.copy_and_resolve_references()
        config.clip = "random"
    else:
        dataset = without_class(dataset, condition.held_out)

    # The window length stays the base's, so all conditions score equal windows.
    text, tower = open_text(config, dataset)
    return dataclasses.replace(
        base, config=config, dataset=dataset, text=text, text_tower_id=tower
    )


def test_experiment(
    base: "Experiment", training: "Experiment", condition: TextCondition
) -> "Experiment":
    """Returns the experiment that scores the whole test set with a condition's words.

    Args:
      base: opened recipe.
      training: result of `training_experiment`.
      condition: condition that is scored.
    """
    from wsvad_jax.experiment.other_words import with_other_words

    whole = dataclasses.replace(training, dataset=base.dataset)
    scoring, unnamed = with_other_words(whole, condition.words)
    if unnamed:
        raise InputError(
            f"the words of condition {condition.name} leave out {', '.join(unnamed)}, "
            "which test videos show; give every class of the dataset its words"
        )
    return scoring
