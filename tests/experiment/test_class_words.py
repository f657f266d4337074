"""Classes in a user's words: from a flag, a list or a dictionary."""

import pytest

from wsvad_jax.data.cards import ClassCard
from wsvad_jax.experiment.class_words import card_from_words, class_cards, in_words
from wsvad_jax.utils.errors import InputError

FIGHT = ClassCard("people fighting", ("people fighting", "a brawl"))
FIRE = ClassCard("a fire", ("a fire",))


@pytest.mark.parametrize(
    "words",
    [
        "people fighting|a brawl,a fire",
        " people fighting | a brawl , a fire ",
        ["people fighting|a brawl", "a fire"],
        [["people fighting", "a brawl"], "a fire"],
        {"people fighting": ["people fighting", "a brawl"], "a fire": "a fire"},
    ],
)
def test_ways_to_write_classes(words):
    assert class_cards(words) == (FIGHT, FIRE)
    assert (
        ",".join(map(in_words, class_cards(words))) == "people fighting|a brawl,a fire"
    )


def test_a_name_stands_before_its_prompts():
    (card,) = class_cards("Fight=people fighting|a brawl")
    assert card == ClassCard("Fight", FIGHT.prompts)
    assert in_words(card) == "Fight=people fighting|a brawl"
    assert class_cards({"Fight": "people fighting|a brawl"}) == (card,)


def test_the_card_has_the_normal_class_first():
    card = card_from_words("people fighting|a brawl,a fire", "a street|a road", "clip")
    assert card.classes == (ClassCard("Normal", ("a street", "a road")), FIGHT, FIRE)
    assert (card.clip, card.stride) == ("clip", 16)


@pytest.mark.parametrize(
    ("classes", "normal", "text"),
    [
        ("", "a street", "a class or prompt without words"),
        ([], "a street", "--classes names no class"),
        ("a fire,,a fight", "a street", "a class or prompt without words"),
        ("a fire|", "a street", "a class or prompt without words"),
        ("Fire=", "a street", "a class or prompt without words"),
        ("a fire", " ", "--normal: a class or prompt without words"),
        ("a fire", "a street, a road", "takes the prompts of one class alone; write |"),
        ("a fire", "Street=a road", "takes the prompts of one class alone; write |"),
        ("a fire", "a street|", "--normal: a class or prompt without words"),
        ("a fire,A  Fire", "a street", "stands in the class 'a fire'"),
        ("a fire,smoke|a fire", "a street", "stands in the class 'a fire'"),
        ("a street", "a street", "stands in the class 'Normal'"),
        ("normal", "a street", "stands in the class 'Normal'"),
        ("smoke + fire", "a street", "--classes"),
    ],
)
def test_words_that_name_no_classes(classes, normal, text):
    with pytest.raises(InputError) as e:
        card_from_words(classes, normal, "clip")
    assert text in str(e.value) and "\n" not in str(e.value)
