"""Captions say what is seen: they are true, and never name a class."""

import re

import numpy as np
import pytest

from wsvad_jax.datasets.demo.sights import FACTS
from wsvad_jax.pretraining.captions import (
    ALL_FACTS,
    PHRASES,
    SALIENCE,
    WIDER,
    caption,
    truth_table,
)

# Names of the demo's classes, their synonyms, and words that say what happens.
FORBIDDEN = re.compile(
    r"\b(fight|brawl|punch|hit|kick|violen|attack|beat|arson|burn|ignit|set|explo|blast|"
    r"bomb|deton|accident|crash|colli|wreck|damage|unusual|normal|ordinary|abnormal|"
    r"anomal|danger|crime|victim|flee)"
)
SCENE = ["two people", "arms raised", "no cars", "no flames", "dust", "day"]


def test_every_fact_has_words_and_no_other():
    assert set(PHRASES) == set(ALL_FACTS)
    assert set(SALIENCE) <= set(FACTS)
    assert set(WIDER) <= {phrase for words in PHRASES.values() for phrase in words}


@pytest.mark.parametrize("fact", ALL_FACTS)
def test_no_phrase_names_a_class_or_says_what_happens(fact):
    for phrase in PHRASES[fact]:
        assert not FORBIDDEN.search(phrase), phrase


def test_a_phrase_of_two_facts_is_wider():
    """Words that are said of two facts must be true of both."""
    facts: dict[str, set[str]] = {}
    for fact, phrases in PHRASES.items():
        for phrase in phrases:
            facts.setdefault(phrase, set()).add(fact)
    for phrase, owners in facts.items():
        if len(owners) > 1:
            assert owners <= set(WIDER[phrase])


def test_captions_are_true_of_their_picture_and_vary():
    rng = np.random.default_rng(0)
    drawn = [caption(SCENE, rng) for _ in range(300)]
    assert all(c.true_of(SCENE) for c in drawn)
    assert len({c.text for c in drawn}) > 100
    assert any("raised arms" in c.text for c in drawn)
    assert not any("car" in c.text.replace("no cars", "").replace("without cars", "")
                   for c in drawn)  # fmt: skip


def test_what_stands_out_is_said_more_often():
    rng = np.random.default_rng(0)
    drawn = [caption(SCENE, rng) for _ in range(2000)]
    dust = sum("dust" in c.text for c in drawn)
    flames = sum("no flames" in c.text or "no fire" in c.text for c in drawn)
    assert dust > 5 * flames > 0


def test_truth_table_agrees_with_each_caption():
    rng = np.random.default_rng(1)
    facts = rng.random((40, len(ALL_FACTS))) < 0.4
    named = [[f for f, holds in zip(ALL_FACTS, r, strict=True) if holds] for r in facts]
    captions = [caption(row, rng) for row in named]
    expected = [[c.true_of(row) for c in captions] for row in named]
    np.testing.assert_array_equal(truth_table(captions, facts), expected)
    assert 0 < np.mean(expected) < 1


def test_smoke_is_true_of_both_kinds():
    rng = np.random.default_rng(0)
    drawn = [caption(["grey smoke", "no people"], rng) for _ in range(200)]
    either = next(c for c in drawn if c.text == "smoke")
    assert either.true_of(["dark smoke"]) and not either.true_of(["steam"])
