"""The released test scripts' numbers through prepare, convert and evaluate.

`tokenizer/` is the part of CLIP's vocabulary (OpenAI, MIT licence) that the class names
of UCF-Crime and XD-Violence consist of.
"""

import pathlib

import fill
import numpy as np
import pytest
import toyset

from wsvad_jax import convert, evaluate
from wsvad_jax.clip.prompts import tokenize
from wsvad_jax.clip.towers import TextConfig
from wsvad_jax.data import cards
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.evaluation.scorer import with_ground_truth
from wsvad_jax.metrics import frame_level
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.prepare import prepare
from wsvad_jax.utils.files import read_json

HERE = pathlib.Path(__file__).parent
CONFIGS = HERE.parent.parent / "configs"
TOKENIZER = HERE / "tokenizer"
CARDS = {"ucf": cards.UCF, "xd": cards.XD}


@pytest.mark.parametrize("dataset", CARDS)
def test_prompts_are_the_golden_tokens(dataset):
    config = TextConfig(49408, 512, 2048, 4, 8, 77, 512, eos_token_id=49407)
    tokens, eos, _ = tokenize(CARDS[dataset].prompts, TOKENIZER, config)
    wanted = fill.golden(f"dsanet_{dataset}")["tokens"]
    np.testing.assert_array_equal(tokens, wanted[:, : tokens.shape[1]])
    np.testing.assert_array_equal(eos, wanted.argmax(1))


@pytest.fixture(scope="module", params=CARDS)
def toy(request, tmp_path_factory):
    """(dataset's name, path of the prepared toy set, its test entries)."""
    root = tmp_path_factory.mktemp(request.param)
    videos = toyset.write(root / "toy", CARDS[request.param])
    path = prepare(str(root / "toy"), data_dir=str(root / "data"))
    entries = open_dataset(path).split("test").entries
    assert [e.video for e in entries] == videos
    return request.param, path, entries


def second(dataset, entries, probabilities):
    """Metrics of the score 1 - P(normal), the release's AUC2 and AP2, and of `map`."""
    scores = [SnippetScores(anomaly=1 - p[:, 0], classes=p) for p in probabilities]
    return frame_level.evaluate(
        with_ground_truth(entries, scores),
        CARDS[dataset].class_names,
        # The toy set calls its normal videos by class 0's name, which counts as true.
        normal_truth="whole_video",
    )


@pytest.mark.parametrize("model", ["dsanet", "vadclip"])
def test_metrics_of_released_scores(toy, model):
    dataset, _, entries = toy
    golden = fill.golden(f"eval_{model}_{dataset}")
    assert [e.num_snippets for e in entries] == golden["lengths"].tolist()
    ends = np.cumsum(golden["lengths"])[:-1]
    found = second(dataset, entries, np.split(golden["class_probs"], ends))
    assert found["auc"] == pytest.approx(float(golden["auc2"]), abs=1e-9)
    assert found["ap"] == pytest.approx(float(golden["ap2"]), abs=1e-9)
    np.testing.assert_allclose(100 * np.array(found["map"]), golden["map"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dsanet", "vadclip"])
def test_released_evaluation(toy, tmp_path, model):
    """A released checkpoint scores a prepared dataset as its own test script does."""
    torch = pytest.importorskip("torch")
    dataset, path, entries = toy
    name, golden = f"{model}_{dataset}", fill.golden(f"eval_{model}_{dataset}")
    state = {k: torch.tensor(x) for k, x in fill.state_dict(name).items()}
    torch.save(state, tmp_path / "released.pth")

    recipe = f"--config={CONFIGS}/{model}.py:{dataset}"
    folder, out = tmp_path / "model", tmp_path / "out"
    flags = [f"--torch={tmp_path}/released.pth", f"--output={folder}"]
    assert convert.main([recipe, *flags, f"--clip={TOKENIZER}"]) == 0
    flags = [f"--config.data.name={path}", "--config.eval.normal_truth=whole_video"]
    flags += [f"--checkpoint={folder}", f"--workdir={out}"]
    assert evaluate.main([recipe, *flags]) == 0

    with np.load(out / "scores.npz") as scores:
        probabilities = [scores[f"{e.video}/classes"] for e in entries]
    wanted = golden["class_probs"]
    np.testing.assert_allclose(np.concatenate(probabilities), wanted, atol=1e-6)
    # Thousands of scores lie within a hundredth, so that the last bit of float32
    # makes some change places; of equal scores the metrics are equal (above).
    results = read_json(out / "results.json")
    assert results["auc"] == pytest.approx(float(golden["auc1"]), abs=1e-6)
    assert results["ap"] == pytest.approx(float(golden["ap1"]), abs=5e-6)
    np.testing.assert_allclose(results["map"], golden["map"] / 100, atol=2e-5)
    found = second(dataset, entries, probabilities)
    assert found["auc"] == pytest.approx(float(golden["auc2"]), abs=5e-6)
    assert found["ap"] == pytest.approx(float(golden["ap2"]), abs=5e-6)
    if model == "vadclip":  # DSANet's is the alignment before it is refined
        assert results["auc_align"] == pytest.approx(found["auc"], abs=1e-6)
