"""The card beside trained weights says what they are and what they are not."""

from types import SimpleNamespace

from finished import CARD, recipe, write_small

from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.evaluation import model_card
from wsvad_jax.models import dsanet


def card(tmp_path, protocol="clean", name="small"):
    dataset = open_dataset(write_small(tmp_path / "data"))
    config = recipe("dsanet", str(dataset.path), 0, f"protocol={protocol}")
    opened = SimpleNamespace(dataset=dataset, spec=dsanet.SPEC, config=config)
    meta = {"model": "dsanet", "selection": "last weights", "step": 60}
    results = {"versions": {"jax": "0.10"}, "device": "cpu", "auc": 0.91, "map": [0.1]}
    model_card.write(tmp_path / "MODEL_CARD.md", opened, meta, results)
    return (tmp_path / "MODEL_CARD.md").read_text()


def test_a_card_says_what_the_weights_are(tmp_path):
    text = card(tmp_path)
    assert text.startswith("# dsanet on small\n")
    assert "https://arxiv.org/abs/2511.10334" in text
    assert "| frame AUC | 91.00 |" in text and "was not looked at" in text
    assert all(name in text for name in CARD.class_names)
    assert "Data: Not stated; the data's owner decides." in text
    assert "$" not in text


def test_a_card_says_that_the_test_set_chose(tmp_path):
    assert "The test set picked these weights" in card(tmp_path, "paper")
