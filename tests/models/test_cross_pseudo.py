"""Cross pseudo-labels: which snippets get a label, and where gradients go."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import TEXT_MODELS

from wsvad_jax import models
from wsvad_jax.data.records import Batch
from wsvad_jax.experiment import build, identity, old_keys
from wsvad_jax.experiment.config import load_config
from wsvad_jax.models import cross_pseudo, vadclip
from wsvad_jax.models.cross_pseudo import LabelSettings
from wsvad_jax.parallel.mesh import make_mesh
from wsvad_jax.training.state import make_init
from wsvad_jax.training.train_step import make_loss, make_train_step
from wsvad_jax.utils.errors import InputError

# Without what looks at neighbours, a snippet's label depends on its own score.
PLAIN = LabelSettings(votes=0.4, calm=0.2, gap=0, length=1, scales=1, flat=1.0)
SMALL = LabelSettings(votes=0.49, calm=0.2, gap=1, length=1, scales=2, flat=0.55)
T = 16
PLACES = np.arange(T)
# Compiled at once: operation by operation, each would be compiled alone.
pseudo_labels = jax.jit(cross_pseudo.pseudo_labels, static_argnums=3)
value_and_grad = jax.jit(
    jax.value_and_grad(cross_pseudo.cross_pseudo_loss, (0, 1)), static_argnums=4
)


def mask(text):
    return jnp.asarray([c == "#" for c in text])


def labels(score, settings=PLAIN, abnormal=True, length=None):
    score = np.asarray(score, np.float32)[None]
    where = np.arange(score.shape[1])[None] < (length or score.shape[1])
    target, labelled = pseudo_labels(score, np.array([abnormal]), where, settings)
    return np.asarray(target[0]), np.asarray(labelled[0])


@pytest.fixture
def logits():
    r = np.random.RandomState(0)
    # Videos: normal, two abnormal ones, an abnormal one that is all padding.
    label = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    length = np.array([16, 16, 9, 0], np.int32)
    return *(3 * r.standard_normal((2, 4, T)).astype(np.float32)), label, length


@pytest.mark.parametrize(
    ("gap", "wanted"),
    [(0, "..##.#...#...."), (1, "..####...#...."), (3, "..########....")],
)
def test_gaps_between_two_segments_are_closed(gap, wanted):
    found = cross_pseudo.close_gaps(mask("..##.#...#...."), gap)
    np.testing.assert_array_equal(found, mask(wanted))


def test_labels_are_flat_in_the_middle_and_fall_to_both_ends():
    found = np.asarray(
        cross_pseudo.flat_gaussian(mask("." + 20 * "#" + ".#.###"), 0.55)
    )
    # ⌊0.55 · 20⌋ = 11 snippets and the odd one are 1; each tail has 4.
    tail = np.exp(-0.5 * (3 * np.arange(3, -1, -1) / 4) ** 2)
    np.testing.assert_allclose(found[1:5], tail, rtol=1e-6)
    np.testing.assert_allclose(found[17:21], tail[::-1], rtol=1e-6)
    assert (found[5:17] == 1).all() and found[22] == 1
    assert not found[[0, 21, 23]].any()


def test_blocks_average_valid_snippets_alone():
    score = jnp.asarray([[1.0, 0.0, 0.5, 9.0, 9.0]])
    found = cross_pseudo.average_scales(score, jnp.arange(5)[None] < 3, 2)
    np.testing.assert_allclose(found[0, 0, :3], [1, 0, 0.5])
    np.testing.assert_allclose(found[1, 0, :4], [0.5, 0.5, 0.5, 0.5])


def test_a_snippet_between_the_limits_has_no_label():
    # Shares: 0.95, 8 of 9 thresholds; none; 3 of them.
    target, labelled = labels([0.93, 0.1, 0.68])
    assert labelled.tolist() == [True, True, False]
    assert target[0] == 1 and not target[1:].any()


def test_short_spikes_are_no_anomalies():
    score = np.where((PLACES == 2) | (PLACES >= 8), 0.97, 0.05)
    target, labelled = labels(
        score, LabelSettings(votes=0.4, gap=0, length=3, scales=1)
    )
    assert not target[:8].any() and target[8:].all() and labelled.all()


def test_an_abnormal_video_without_an_anomalous_snippet_has_no_label():
    target, labelled = labels(np.full(T, 0.1))
    assert not target.any() and not labelled.any()


def test_all_of_a_normal_video_is_normal():
    """Even where the branch is sure of the contrary: the video's label is known."""
    target, labelled = labels(np.full(T, 0.99), abnormal=False, length=10)
    assert not target.any() and labelled.sum() == 10


@pytest.mark.parametrize("settings", [SMALL, LabelSettings(length=2)])
def test_padding_neither_has_labels_nor_changes_them(settings):
    r = np.random.RandomState(1)
    score = np.where(PLACES < 5, 0.9, 0.2) + 0.05 * r.random_sample(T)
    target, labelled = labels(score, settings, length=11)
    assert target.any() and not labelled[11:].any()
    score[11:] = 0.99
    again, labelled_again = labels(score, settings, length=11)
    np.testing.assert_array_equal(again, target)
    np.testing.assert_array_equal(labelled_again, labelled)


def test_time_runs_either_way():
    score = np.random.RandomState(2).random_sample(T)
    found = labels(score, SMALL)
    target, labelled = labels(score[::-1], SMALL)
    np.testing.assert_allclose(target[::-1], found[0], rtol=1e-6)
    np.testing.assert_array_equal(labelled[::-1], found[1])


def test_the_order_of_snippets_does_not_matter_without_neighbours(logits):
    classified, aligned, label, _ = logits
    length = np.full(4, T, np.int32)
    order = np.random.RandomState(3).permutation(T)
    found, grads = value_and_grad(classified, aligned, label, length, PLAIN)
    moved, moved_grads = value_and_grad(
        classified[:, order], aligned[:, order], label, length, PLAIN
    )
    np.testing.assert_allclose(moved, found, rtol=1e-5)
    for one, other in zip(moved_grads, grads, strict=True):
        np.testing.assert_allclose(one, other[:, order], rtol=1e-4, atol=1e-7)


def test_nothing_labelled_costs_nothing(logits):
    """Abnormal videos of scores around one half, and videos that are all padding."""
    _, _, label, length = logits
    calm = np.zeros((4, T), np.float32)
    label = label[[1, 1, 2, 1]]
    for n in (length, np.zeros(4, np.int32)):
        value, grads = value_and_grad(calm, calm, label, n, SMALL)
        assert value == 0 and not any(g.any() for g in grads)


def test_one_direction_has_no_gradient_for_the_branch_that_labels(logits):
    """Where one branch is sure of all and the other of nothing, that one learns alone."""
    _, _, label, length = logits
    sure = np.where(PLACES < 6, 6, -6) * np.ones((4, 1), np.float32)
    unsure = np.full((4, T), 0.1, np.float32)
    label = label[[1, 1, 2, 1]]

    _, (teacher, student) = value_and_grad(sure, unsure, label, length, SMALL)
    assert not teacher.any()
    assert student[1].all() and not student[2, 9:].any() and not student[3].any()
    # It falls where the label is 1, so a step against it raises the score.
    assert (student[1, 1:5] < 0).all() and (student[1, 6:] > 0).all()


def test_gradients_are_those_of_finite_differences(logits):
    """Labels don't change in the small, so differences see the branch that learns."""
    classified, aligned, label, length = logits
    with jax.enable_x64():
        inputs = [np.asarray(x, np.float64) for x in (classified, aligned)]
        _, grads = value_and_grad(*inputs, label, length, SMALL)

        r, h = np.random.RandomState(4), 1e-5
        for i in (0, 1):
            direction, ends = r.standard_normal((4, T)), []
            for sign in (1, -1):
                moved = list(inputs)
                moved[i] = inputs[i] + sign * h * direction
                ends.append(value_and_grad(*moved, label, length, SMALL)[0])
            slope = float(ends[0] - ends[1]) / (2 * h)
            np.testing.assert_allclose(slope, np.sum(grads[i] * direction), rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_it_stays_finite_at_every_edge(logits, scale):
    scaled = [np.float32(scale) * x for x in logits[:2]]
    value, grads = value_and_grad(*scaled, *logits[2:], SMALL)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


def test_the_a_branch_has_the_logit_of_its_own_probability():
    M = np.float32(np.random.RandomState(5).standard_normal((2, 3, 4)) * 5)
    _, found = jax.jit(cross_pseudo.branch_logits)(M[..., 0], M)
    odds = np.exp(M[..., 1:]).sum(-1) / np.exp(M[..., 0])
    np.testing.assert_allclose(found, np.log(odds), rtol=1e-4, atol=1e-5)


class Case:
    """A small model of a recipe with its objective, untraced."""

    def __init__(self, name, text, **weights):
        self.config = load_config([f"--config={name}"])
        self.config.model.update(TEXT_MODELS[name])
        self.config.loss.update(weights)
        self.model, self.text = build.build_model(self.config), text
        r = np.random.RandomState(0)
        self.batch = types.SimpleNamespace(
            features=jnp.asarray(r.standard_normal((4, 1, T, 32)), jnp.float32),
            length=jnp.asarray([16, 12, 16, 7]),
            label=jnp.asarray(np.eye(5, dtype=np.float32)[[0, 0, 2, 3]]),
        )

    def jaxpr(self, weights):
        """The objective as a program; nothing is compiled."""
        x, length = self.batch.features, self.batch.length
        loss_fn = make_loss(self.model, models.MODELS[self.name].loss_fn, weights)

        def init():
            key = jax.random.key(0)
            return self.model.init(key, x, length, self.text, train=True)["params"]

        def loss(params, step):
            return loss_fn(params, {}, self.batch, self.text, {}, step)[0]

        return str(jax.make_jaxpr(loss)(jax.eval_shape(init), jnp.zeros((), int)))

    @property
    def name(self):
        return self.config.model_name


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_weight_0_is_the_recipe_without_it(name, tiny_text):
    case = Case(name, tiny_text)
    weights = dict(case.config.loss)
    off = case.jaxpr(weights)
    assert off == case.jaxpr({k: v for k, v in weights.items() if "pseudo" not in k})
    assert off != case.jaxpr(weights | {"cross_pseudo": 1.0})


def test_it_counts_after_the_warm_up(logits):
    # Without the video that is all padding, for which the other terms are undefined.
    classified, aligned, label, length = (x[:3] for x in logits)
    M = np.stack([-aligned, 0 * aligned - 50, 0 * aligned], -1)
    outputs = vadclip.Outputs(jnp.asarray(classified), jnp.asarray(M), jnp.eye(3, 4))
    batch = types.SimpleNamespace(label=jnp.asarray(label), length=jnp.asarray(length))
    own = {"cross_pseudo": 2.0, "cross_pseudo_warmup": 10}
    weights = {"mil": 1.0, "align": 1.0, "text": 0.1, **own}

    @jax.jit
    def run(step):
        return vadclip.loss_fn(outputs, batch, cross_pseudo.weights_at(weights, step))

    (early, terms), (late, _) = run(9), run(10)
    assert terms["cross_pseudo"] > 0  # the normal video is labelled throughout
    np.testing.assert_allclose(late - early, 2 * terms["cross_pseudo"], rtol=1e-3)
    settings = cross_pseudo.settings_of(weights)
    wanted, _ = value_and_grad(classified, aligned, label, length, settings)
    np.testing.assert_allclose(terms["cross_pseudo"], wanted, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_a_training_step_knows_its_number(name, tiny_text):
    """A step within the warm-up is that of the recipe without the term."""
    states = []
    for weights in ({}, {"cross_pseudo": 5.0, "cross_pseudo_warmup": 1}):
        case, optimiser = Case(name, tiny_text, **weights), optax.sgd(0.01)
        example = case.batch.features[:2], np.ones(2, np.int32), tiny_text
        current = make_init(case.model, optimiser, example, make_mesh())(
            jax.random.key(0)
        )
        spec, loss = models.MODELS[name], dict(case.config.loss)
        step = jax.jit(make_train_step(case.model, spec, optimiser, loss))
        batch = Batch(**vars(case.batch), mask=np.ones(4, bool))
        for _ in range(2):
            current, _ = step(current, batch, tiny_text, jax.random.key(0))
            states.append(jax.device_get(current.params))

    def differ(one, other):
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return any(np.abs(a - b).max() > 1e-6 for a, b in pairs)

    assert not differ(states[0], states[2]) and differ(states[1], states[3])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"loss.cross_pseudo": -1.0},
            r"cross_pseudo is -1.0; expected a number in \[0",
        ),
        ({"loss.cross_pseudo": float("nan")}, "cross_pseudo is nan; expected a number"),
        ({"loss.cross_pseudo_scales": 0}, r"cross_pseudo_scales is 0.*\[1, 8\]"),
        (
            {"loss.cross_pseudo_calm": 0.5},
            "cross_pseudo_calm is 0.5; expected less than",
        ),
        ({"model.align": False}, "requires both branches, but config.model.align is F"),
        ({"model.classify": False}, "but config.model.classify is False"),
    ],
)
def test_settings_that_make_no_sense(changes, said):
    config = load_config(["--config=vadclip"])
    config.loss.cross_pseudo = 1.0
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=said):
        build.build_model(config)


def test_a_warm_up_as_long_as_the_training_is_refused():
    weights = {"cross_pseudo": 1.0, "cross_pseudo_warmup": 30}
    with pytest.raises(InputError, match="has 30 steps, so the labels would never"):
        cross_pseudo.check_warmup(weights, 30)
    cross_pseudo.check_warmup(weights, 31)
    cross_pseudo.check_warmup(weights | {"cross_pseudo": 0.0}, 30)


def test_settings_of_a_term_that_is_off_make_no_other_run():
    """Runs from before there was the term share rows with today's."""
    config = load_config(["--config=vadclip"]).to_dict()
    old = {**config, "loss": {k: config["loss"][k] for k in ("mil", "align", "text")}}
    old_keys.upgrade(old)
    assert identity.keys_in_force(old) == identity.keys_in_force(config)
    config["loss"]["cross_pseudo"] = 1.0
    key, _, _ = identity.first_difference(
        identity.keys_in_force(old), identity.keys_in_force(config)
    ) or ("", 0, 0)
    assert key == "loss.cross_pseudo"
