"""Switches that take a snippet's place in the window out of VadCLIP and DSANet."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from wsvad_jax.experiment.build import build_model
from wsvad_jax.experiment.config import load_config
from wsvad_jax.models import dsanet, lgt_adapter, vadclip
from wsvad_jax.models.lgt_adapter import LGTAdapter
from wsvad_jax.utils.errors import InputError

T, D = 16, 32
LENGTH = jnp.array([16, 11, 3], jnp.int32)
EVEN = {"positions": False, "distance_graph": "row_normalised"}


def build(**fields):
    """Returns an encoder (params, x) → features with its first weights."""
    return build_once(tuple(fields.items()))


@functools.cache
def build_once(fields):
    encoder = LGTAdapter(layers=1, window=4, **dict(fields))
    where = jnp.arange(T)[None] < LENGTH[:, None]
    x = jnp.zeros((len(LENGTH), T, D))
    params = jax.jit(lambda key: encoder.init(key, x, LENGTH, where))(jax.random.key(0))
    return jax.jit(lambda p, x: encoder.apply(p, x, LENGTH, where)), params


def static_videos():
    """Videos whose snippets all have the same feature, with zeros as padding."""
    feature = np.random.RandomState(0).standard_normal((len(LENGTH), 1, D))
    valid = jnp.arange(T)[None] < LENGTH[:, None]
    return jnp.asarray(feature * valid[..., None], jnp.float32)


def unevenness(values):
    """Largest difference between two valid snippets of a video."""
    rows = zip(np.asarray(values), LENGTH.tolist(), strict=True)
    return max(float(np.ptp(row[:n], axis=0).max()) for row, n in rows)


@pytest.mark.parametrize("fields", [EVEN, {"positions": False, "use_graph": False}])
def test_static_videos_have_even_features(fields):
    encode, params = build(**fields)
    assert unevenness(encode(params, static_videos())) < 1e-5


@pytest.mark.parametrize(
    "released", [{}, {"positions": True}, {"distance_graph": "released"}]
)
def test_the_released_encoder_tells_places_apart(released):
    encode, params = build(**(EVEN | released if released else {}))
    assert unevenness(encode(params, static_videos())) > 1e-3


@pytest.mark.parametrize("module", [vadclip, dsanet])
def test_models_pass_their_switches_on(module, tiny_text):
    """Static videos score evenly, in anomaly logits and alignment logits."""
    small = {"sgnm": False, "dcsa": False} if module is dsanet else {}
    model = module.Model(
        attn_window=4, visual_layers=1, mask_padding=True, **small, **EVEN
    )
    text = jax.random.normal(jax.random.key(1), (5, D))
    x = static_videos()[:, None]

    @jax.jit
    def outputs(key):
        params = model.init(key, x, LENGTH, text, train=False)
        return model.apply(params, x, LENGTH, text, train=False)

    scored = outputs(jax.random.key(0))
    assert unevenness(scored.anomaly_logits[..., None]) < 1e-5
    assert unevenness(scored.align_logits) < 1e-4


def test_real_videos_keep_their_order_and_their_padding_is_hidden():
    x = np.random.RandomState(1).standard_normal((len(LENGTH), T, D))
    encode, params = build(**EVEN)
    before = np.asarray(encode(params, jnp.asarray(x, jnp.float32)))

    # The last snippet is padding of all but the first video.
    x[:, -1] += 5.0
    after = np.asarray(encode(params, jnp.asarray(x, jnp.float32)))
    assert abs(after[0] - before[0]).max() > 1e-3
    for row, n in enumerate(LENGTH.tolist()[1:], 1):
        np.testing.assert_allclose(after[row, :n], before[row, :n], atol=1e-5)


def test_rows_of_the_normalised_graph_sum_to_one():
    where = jnp.arange(T)[None] < LENGTH[:, None]
    graph = np.asarray(lgt_adapter.row_normalised_graph(where))
    np.testing.assert_allclose(graph.sum(-1), 1, rtol=1e-6)
    assert (graph[~np.broadcast_to(where[:, None], graph.shape)] == 0).all()

    # The released rows differ, which is the cause of the bias.
    released = np.asarray(lgt_adapter.distance_graph(32)[0]).sum(-1)
    assert released[16] == pytest.approx(5.5, abs=0.1)
    assert released[0] == pytest.approx(3.2, abs=0.1)


def test_ends_are_extended_by_valid_snippets():
    x = jnp.arange(2 * 4, dtype=jnp.float32).reshape(2, 4, 1)
    where = jnp.arange(4)[None] < jnp.array([[4], [2]])
    extended = np.asarray(lgt_adapter.extend_ends(x, where, 2))[..., 0]
    assert extended.tolist() == [[0, 0, 0, 1, 2, 3, 3, 3], [4, 4, 4, 5, 5, 5, 5, 5]]


def test_switches_keep_the_parameters_and_the_table_stays_zero():
    """Weights of one form load into the other; weight decay can't move a zero."""
    _, released = build()
    encode, even = build(**EVEN)
    assert jax.tree.map(jnp.shape, even) == jax.tree.map(jnp.shape, released)

    assert not even["params"]["frame_position_embeddings"].any()
    gradient = jax.jit(jax.grad(lambda p: encode(p, static_videos()).sum()))(even)
    assert not gradient["params"]["frame_position_embeddings"].any()


@pytest.mark.parametrize("model", ["vadclip", "dsanet"])
@pytest.mark.parametrize("dataset", ["ucf", "xd", "shanghaitech"])
def test_published_recipes_have_the_released_encoder(model, dataset):
    config = load_config(f"{model}:{dataset}")
    assert config.model.positions is True
    assert config.model.distance_graph == "released"
    assert not config.clean.remove_position_bias


def test_an_unknown_graph_is_an_error():
    config: ConfigDict = load_config("vadclip:ucf")
    config.model.distance_graph = "relative"
    with pytest.raises(InputError, match="distance_graph.*released or row_normalised"):
        build_model(config)
