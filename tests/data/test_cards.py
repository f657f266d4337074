"""Cards: order, validation, what is inferred from labels and names."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsvad_jax.data import cards
from wsvad_jax.data.cards import Card
from wsvad_jax.utils.errors import InputError

CARD = {
    "name": "mine",
    "classes": [
        {"name": "RoadAccidents", "prompts": ["road accidents", "a car crash"]},
        {"name": "Normal", "prompts": ["normal"]},
        {"name": "Fire"},
    ],
    "normal": "Normal",
    "stride": 8,
    "test_crop": 5,
}


def test_normal_becomes_class_0_and_the_others_keep_their_order():
    card = Card.from_json(CARD, "card.json")
    assert card.class_names == ("Normal", "RoadAccidents", "Fire")
    assert card.prompts[1:] == (("road accidents", "a car crash"), ("fire",))
    assert (card.stride, card.test_crop, card.index("Fire")) == (8, 5, 2)


@pytest.mark.parametrize("card", [cards.UCF, cards.XD, cards.SHANGHAITECH])
def test_json_round_trip(card):
    assert Card.from_json(json.loads(json.dumps(card.to_json())), "x") == card


def test_public_cards():
    assert (len(cards.UCF.classes), len(cards.XD.classes)) == (14, 7)
    assert cards.UCF.test_crop == 5 and cards.XD.test_crop == 0
    assert cards.UCF.classes[8].prompts == ("roadaccidents",)
    assert cards.XD.classes[5] == cards.ClassCard("B6", ("car accident",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": "Calm"}, "normal class 'Calm' is not among the classes"),
        ({"classes": [{"name": "A"}, {"name": "B"}], "normal": "C"}, "normal class"),
        ({"classes": [{"name": "Normal"}]}, "at least two classes"),
        ({"classes": "Normal"}, "classes must be a list, found 'Normal'"),
        ({"classes": [{"name": "Normal"}, {"name": "Normal"}]}, "there 2 times"),
        ({"classes": [{"name": "Normal"}, {"name": "a+b"}]}, "which separate labels"),
        ({"classes": [{"name": "Normal"}, {"name": "A", "prompts": []}]}, "prompts"),
        (
            {"classes": [{"name": "Normal"}, {"name": "A", "words": []}]},
            "unknown key 'classes[1].words'",
        ),
        ({"classes": [{"name": "Normal"}, {"name": 3}]}, "must be a text"),
        ({"stride": 0}, "stride must be a whole number of at least 1, found 0"),
        ({"test_crop": "5"}, "test_crop must be a whole number"),
        ({"name": ""}, "name must be a text"),
        ({"colour": "red"}, "unknown key 'colour'; expected one of name, classes"),
    ],
)
def test_bad_card_is_one_sentence_that_names_the_file(change, message):
    with pytest.raises(InputError) as error:
        Card.from_json({**CARD, **change}, "card.json")
    text = str(error.value)
    assert text.startswith("card.json: ") and message in text and "\n" not in text


def test_card_without_normal():
    value = {"name": "x", "classes": [{"name": "A"}, {"name": "B"}]}
    with pytest.raises(InputError, match="normal class 'Normal' is not among"):
        Card.from_json(value, "card.json")
    with pytest.raises(InputError, match="expected an object, .* a card is"):
        Card.from_json([1], "card.json")


def test_label_that_no_class_has():
    with pytest.raises(InputError, match="label 'Riot' that no class has; .*Abuse"):
        cards.UCF.index("Riot")


def test_infer():
    card = cards.infer_card(["RoadAccidents", "Normal", "Arson", "Normal"], name="mine")
    assert card.class_names == ("Normal", "Arson", "RoadAccidents")
    assert card.prompts == (("normal",), ("arson",), ("road accidents",))
    for labels in (["Arson"], ["Normal"], []):
        with pytest.raises(InputError, match="at least one other class"):
            cards.infer_card(labels)
    card = cards.infer_card(["fire", "NORMAL"])
    assert card.class_names == ("NORMAL", "fire")


@pytest.mark.parametrize("other", ["fight", "Fi ght", "\uff26ight", "Fi\u200cght"])
def test_labels_that_look_alike(other):
    with pytest.raises(InputError, match="one class written in two ways or two"):
        cards.infer_card(["Normal", "Fight", other])


def test_names_of_classes_are_compared_as_they_look():
    card = json.loads(json.dumps(CARD))
    card["classes"][2]["name"] = "Fe\u0301u\u00a0 de  for\u00adet\u200b"
    card["normal"] = "\ufeffNormal"
    assert Card.from_json(card, "x").class_names[2] == "F\u00e9u de foret"
    card["classes"][2]["name"] = "\u200b"
    with pytest.raises(InputError, match="name must be a text"):
        Card.from_json(card, "x")


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("RoadAccidents", "road accidents"),
        ("car_crash", "car crash"),
        ("UCFCrime", "ucf crime"),
        ("fire-fight2", "fire fight2"),
        ("火", "火"),
        ("__", "__"),
    ],
)
def test_prompt_of(name, prompt):
    assert cards.words_of_class(name) == prompt


@given(st.text(min_size=1))
def test_prompt_of_any_name_is_not_empty(name):
    assert cards.words_of_class(name)
