"""The program that trains a small CLIP: resumable, repeatable, and it learns."""

import functools

import jax
import numpy as np
import pytest

from wsvad_jax import pretrain
from wsvad_jax.clip.prompts import text_inputs
from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.clip.towers import encode_image, encode_text
from wsvad_jax.pretraining import run
from wsvad_jax.pretraining.contrastive import contrastive_loss
from wsvad_jax.pretraining.frames import MARGIN, draw_video
from wsvad_jax.pretraining.tokenizer import learn_merges
from wsvad_jax.utils.errors import InputError

TINY = ["--videos=3", "--steps=4", "--batch_size=8", "--width=64", "--layers=1",
        "--patch_size=32", "--merges=20"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def shared_parts():
    """All trainings share their frames and compiled programs."""
    with pytest.MonkeyPatch.context() as patch:
        init = jax.jit(run.init_params, static_argnums=(0, 1, 2))
        patch.setattr(run, "init_params", init)
        patch.setattr(run, "draw_frames", functools.cache(run.draw_frames))
        patch.setattr(run, "make_step", functools.cache(run.make_step))
        yield


@pytest.fixture(scope="module")
def whole(shared_parts, tmp_path_factory):
    """The folder of a finished training, which tests only read."""
    out = tmp_path_factory.mktemp("whole") / "clip"
    assert pretrain.main([*TINY, f"--output={out}"]) == 0
    return out


def test_loss_is_least_where_true_captions_are_near():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 8)).astype(np.float32)
    images[1] = images[0]  # two pictures of which both captions are true
    true = np.eye(4, dtype=bool)
    true[:2, :2] = True
    scale = np.float32(np.log(100))
    right = float(contrastive_loss(images, images, true, scale))
    wrong = float(contrastive_loss(images, images[[2, 3, 0, 1]], true, scale))
    assert np.isfinite([right, wrong]).all()
    # Both true captions share the probability: the loss there is ln 2.
    np.testing.assert_allclose(right, np.log(2) / 2, atol=1e-3)
    assert wrong > 10


def test_merges_are_those_of_frequent_words():
    merges = learn_merges(["a red car"] * 9 + ["a bus"] * 2, 6)
    assert 0 < len(merges) <= 6
    assert ("c", "a") in merges or ("a", "r</w>") in merges
    assert merges == learn_merges(["a bus"] * 2 + ["a red car"] * 9, 6)


def test_a_snapshot_in_the_hubs_format_comes_out(whole, capsys):
    snapshot = load_snapshot(whole)
    assert not (whole / run.STATE).exists()
    inputs = text_inputs(snapshot, [["two people"], ["a car"]])
    encode = jax.jit(encode_text, static_argnums=1)
    features = encode(inputs.params, inputs.config, inputs.tokens, inputs.eos)
    assert np.isfinite(features).all() and features.shape == (2, 256)

    before = (whole / "model.safetensors").read_bytes()
    assert pretrain.main([*TINY, f"--output={whole}"]) == 0
    assert "already trained" in capsys.readouterr().out
    assert (whole / "model.safetensors").read_bytes() == before


def test_an_interrupted_training_ends_with_the_same_weights(
    whole, tmp_path, monkeypatch
):
    parts = tmp_path / "parts"
    monkeypatch.setattr(run, "SAVE_EVERY", 2)
    draw = run.draw_batch

    def stop(data, step, **sizes):
        if step == 3:
            raise KeyboardInterrupt
        return draw(data, step, **sizes)

    monkeypatch.setattr(run, "draw_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main([*TINY, f"--output={parts}"])
    assert (parts / run.STATE).exists() and not (parts / "config.json").exists()
    monkeypatch.setattr(run, "draw_batch", draw)

    # A damaged state is named.
    state = (parts / run.STATE).read_bytes()
    (parts / run.STATE).write_bytes(state[:100])
    with pytest.raises(InputError, match="state.msgpack: damaged .* remove it"):
        pretrain.main([*TINY, f"--output={parts}"])
    (parts / run.STATE).write_bytes(state)

    assert pretrain.main([*TINY, f"--output={parts}"]) == 0
    assert not (parts / run.STATE).exists()
    for name in ("model.safetensors", "merges.txt", "config.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_a_training_that_diverges_writes_no_snapshot(tmp_path, monkeypatch):
    draw = run.draw_batch

    def draw_nan(*args, **sizes):
        batch = draw(*args, **sizes)
        return batch.replace(gain=np.full_like(batch.gain, np.nan))

    monkeypatch.setattr(run, "draw_batch", draw_nan)
    with pytest.raises(
        InputError, match="loss is nan by step 4: the training diverged"
    ):
        pretrain.main([*TINY, f"--output={tmp_path / 'clip'}"])
    names = {p.name for p in (tmp_path / "clip").iterdir()}
    assert not names & {"config.json", "model.safetensors", run.STATE}


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--seed=-1", "seed is -1; expected 0 to 2147483646"),
        ("--seed=99999999999999999999", "expected 0 to 2147483646"),
        ("--merges=-1", "merges is -1; expected 0 or more"),
        ("--width=200", "width is 200, which its 3 attention heads don't divide"),
        ("--patch_size=7", "patch_size is 7; expected a divisor"),
        ("--videos=0", "videos is 0; expected 1 or more"),
        ("--without=Fight", "without is 'Fight'; expected one of Arson, Explosion"),
        ("--learning_rate=0", "learning_rate is 0.0; expected a value between"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, flag, words):
    with pytest.raises(InputError, match=words):
        pretrain.main([flag, f"--output={tmp_path / 'clip'}"])
    assert not (tmp_path / "clip").exists()


def test_a_folder_of_other_settings_is_refused(whole, tmp_path):
    with pytest.raises(InputError, match="another steps; use the same settings"):
        pretrain.main([*TINY, "--steps=5", f"--output={whole}"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="not empty"):
        pretrain.main([*TINY, f"--output={other}"])
    assert [p.name for p in other.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_words_find_their_pictures_after_a_short_training(tmp_path):
    """On videos and streets of another seed, "a fire" is near to pictures of fires."""
    from sklearn.metrics import roc_auc_score

    jax.config.update("jax_disable_most_optimizations", False)  # of a long training
    # Small, but long enough to learn the most striking words.
    pretrain.main(
        ["--videos=60", "--steps=120", "--batch_size=48", "--width=64", "--layers=2",
         "--learning_rate=0.003", f"--output={tmp_path / 'clip'}"]
    )  # fmt: skip
    snapshot = load_snapshot(tmp_path / "clip")

    videos = [draw_video(k, seed=9) for k in range(24)]
    pictures = np.concatenate([v.pictures for v in videos])[:, :, MARGIN:-MARGIN]
    facts = np.concatenate([v.facts for v in videos])
    burning = facts[:, run.ALL_FACTS.index("large flames")]

    p = snapshot.preprocessing
    pixels = (pictures.astype(np.float32) * p.scale - p.mean) / p.std
    image = np.asarray(encode_image(snapshot.params, snapshot.vision, pixels))
    inputs = text_inputs(snapshot, [["a fire"], ["a pedestrian"]])
    text = encode_text(inputs.params, inputs.config, inputs.tokens, inputs.eos)
    scores = (image / np.linalg.norm(image, axis=1, keepdims=True)) @ np.asarray(text).T
    assert burning.sum() > 20
    assert roc_auc_score(burning, scores[:, 0] - scores[:, 1]) > 0.8
