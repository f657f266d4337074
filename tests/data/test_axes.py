"""Which axis of a feature array holds the crops: stated rules, else a refusal."""

import json

import numpy as np
import pytest

from wsvad_jax.data import axes
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.datasets import custom
from wsvad_jax.datasets.validation import validate
from wsvad_jax.detection import inputs
from wsvad_jax.utils.errors import InputError

READINGS = r"\d+ crops? of \d+ snippets? or \d+ snippets? of \d+ crops?; say which in"


def orders(tmp_path, *pairs, crops=()):
    """What is decided for files of these sizes; "?" is a refusal."""
    shapes = [(tmp_path / f"{i}.npy", (*pair, 64)) for i, pair in enumerate(pairs)]
    return [
        "?" if isinstance(x, InputError) else x
        for x in axes.choose_layouts(shapes, crops)
    ]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # One file: an axis of a usual number of crops, or the documented order.
        ([(170, 10)], "TND"),
        ([(170, 1)], "TND"),
        ([(32, 5)], "TND"),
        ([(10, 170)], "NTD"),
        ([(1, 170)], "NTD"),
        ([(3, 170)], "NTD"),
        ([(170, 3)], "?"),
        ([(1, 10)], "?"),
        ([(10, 10)], "?"),
        ([(5, 10)], "?"),
        ([(7, 7)], "?"),
        ([(12, 64)], "?"),
        ([(1, 1)], "NTD"),
        # Several: the number of crops stays, lengths differ.
        ([(5, 10), (10, 10), (1, 10)], "TND"),
        ([(10, 5), (10, 1)], "NTD"),
        ([(40, 3), (17, 3), (10, 3)], "TND"),
        ([(2, 10), (2, 17), (2, 33)], "NTD"),
        ([(32, 10), (32, 5)], "TND"),
        ([(5, 10), (10, 5)], "?"),
        ([(2, 5), (2, 1), (2, 7), (2, 20), (2, 33), (2, 64)], "NTD"),
        ([(5, 3), (1, 3), (7, 3), (20, 3), (33, 3)], "TND"),
        ([(8, 10), (8, 10), (8, 9)], "?"),
        # A majority that is plain decides for the others.
        ([(32, 10), (48, 10), (10, 10)], "TND"),
        ([(10, 32), (10, 48), (10, 10), (5, 10)], "NTD"),
    ],
)
def test_order_by_sizes(tmp_path, pairs, expected):
    assert orders(tmp_path, *pairs) == [expected] * len(pairs)


def test_a_file_in_the_other_order_is_refused(tmp_path):
    pairs = [(10, 32), (10, 48), (40, 10)]
    assert orders(tmp_path, *pairs) == ["NTD", "NTD", "?"]
    *_, error = axes.choose_layouts([(tmp_path / "a.npy", (*p, 4)) for p in pairs])
    assert "look like [snippets, crops, width], but most files are [crops" in str(error)


def test_a_minority_does_not_decide(tmp_path):
    # Lengths and crops vary; two of eight lengths are 1 and 5 by chance.
    pairs = [(2, 20), (2, 33), (2, 41), (3, 25), (3, 64), (3, 7), (2, 1), (3, 5)]
    assert orders(tmp_path, *pairs) == ["?"] * 8
    assert orders(tmp_path, *pairs[:6], (5, 30)) == ["NTD"] * 7  # all say the same
    assert orders(tmp_path, *((t, 32) for t in range(4, 20))) == ["?"] * 16
    pairs = [(b, a) for a, b in pairs]
    assert orders(tmp_path, *pairs) == ["?"] * 8
    assert orders(tmp_path, *pairs, crops=(10,)) == ["?"] * 8


def test_one_odd_length_does_not_make_snippets_crops(tmp_path):
    pairs = [(32, 10)] * 5 + [(32, 9)]
    assert orders(tmp_path, *pairs) == ["TND"] * 6


def test_crops_of_the_model_decide(tmp_path):
    assert orders(tmp_path, (5, 10), crops=(10,)) == ["TND"]
    assert orders(tmp_path, (1, 10), crops=(1,)) == ["NTD"]
    assert orders(tmp_path, (170, 10), crops=(1,)) == ["TND"]


@pytest.mark.parametrize("order", ["NTD", "TND"])
def test_protocol_states_the_order(tmp_path, order):
    (tmp_path / "protocol.json").write_text(json.dumps({"axes": order}))
    assert orders(tmp_path / "day", (10, 10), (7, 40)) == [order, order]


def test_protocol_states_the_crops(tmp_path):
    (tmp_path / "protocol.json").write_text('{"crops": 5}')
    assert orders(tmp_path, (5, 10)) == ["NTD"]
    (tmp_path / "protocol.json").write_text('{"axes": "DNT"}')
    (error,) = axes.choose_layouts([(tmp_path / "a.npy", (5, 10, 4))])
    assert "axes must be one of TD, NTD, TND, found 'DNT'" in str(error)


def sidecar(crops: int, snippets: int) -> Sidecar:
    seconds = tuple(float(i) for i in range(snippets))
    return Sidecar(
        "v.mp4", "tower", "h", 16, "middle", crops, "stretch", 224, 16.0,
        snippets * 16, seconds, float(snippets),
    )  # fmt: skip


def test_a_sidecar_decides(tmp_path):
    sidecar(10, 10).write(tmp_path / "0.json")
    assert orders(tmp_path, (10, 10)) == ["NTD"]  # as extraction writes it
    sidecar(1, 10).write(tmp_path / "0.json")
    assert orders(tmp_path, (1, 10)) == ["NTD"]
    assert orders(tmp_path, (10, 1)) == ["TND"]


def rewrite(own, shape, lengths=None):
    for i, video in enumerate(v for rows in own.rows.values() for v, _ in rows):
        size = [lengths[i] if n == "T" else n for n in shape] if lengths else shape
        values = np.random.RandomState(i).standard_normal(size).astype(np.float32)
        own.write_features(video, values)


def test_a_folder_of_snippets_before_crops(own):
    rewrite(own, ("T", 10, 6), [4, 5, 10, 4, 6, 7, 4, 4])
    found = custom.load(own.path)
    records = {r.video: r for split in found.splits.values() for r in split}
    assert {r.features.shape[0] for r in records.values()} == {10}
    stored = np.load(own.feature("f0")).astype(np.float16)
    np.testing.assert_array_equal(records["f0"].features, stored.transpose(1, 0, 2))
    said = "feature arrays of 8 videos are read as [snippets, crops, width], 10 crops"
    assert list(found.remarks) == [said]
    assert said in validate.validate(own.path).text()


def test_a_folder_that_reads_both_ways(own):
    rewrite(own, (5, 10, 6))
    with pytest.raises(InputError, match=READINGS) as error:
        custom.load(own.path)
    assert "n0.npy: features of shape [5, 10, 6]" in str(error.value)
    assert (
        "5 crops of 10 snippets or 5 snippets of 10"
        in validate.validate(own.path).text()
    )
    (own.path / "features" / "protocol.json").write_text('{"axes": "TND"}')
    (own.path / "test_segments.json").unlink()
    assert next(iter(custom.load(own.path).splits["test"])).features.shape[1] == 5


def test_the_order_can_be_stated_beside_a_card_of_another_stride(own):
    rewrite(own, (8, 5, 6))
    own.write_card(stride=8)
    (own.path / "features" / "protocol.json").write_text('{"axes": "TND"}')
    assert custom.load(own.path).protocol.crops == 5


@pytest.mark.parametrize("shape", [(170, 10, 8), (170, 1, 8)])
def test_detection_reads_one_file_by_the_same_rule(tmp_path, shape):
    np.save(tmp_path / "one.npy", np.random.standard_normal(shape))
    source = inputs.VideoInput("one", (tmp_path / "one.npy",))
    found = inputs.read_features(source, 30.0)
    assert found.values.shape == (shape[1], 170, 8)
    assert found.edges[-1] == pytest.approx(170 * 16 / 30)


def test_detection_decides_by_all_files_and_refuses_else(tmp_path):
    for name, T in (("a", 40), ("b", 10)):
        np.save(tmp_path / f"{name}.npy", np.ones((T, 10, 8), np.float32))
    both = inputs.find_inputs([tmp_path])
    read = {s.name: f for s, f in inputs.read_all_features(both, None, 16)}
    assert read["b"].values.shape == (10, 10, 8)
    assert read["a"].values.shape == (10, 40, 8)
    with pytest.raises(InputError, match=READINGS):
        inputs.read_features(inputs.VideoInput("b", (tmp_path / "b.npy",)), 30.0)
    errors: list[InputError] = []
    assert not list(inputs.read_all_features(both[1:], None, 16, errors=errors))
    assert len(errors) == 1


def test_width_before_snippets(own):
    (own.path / "test_segments.json").unlink()
    lengths = [20, 31, 42, 53, 64, 75, 86, 97]
    rewrite(own, (16, "T"), lengths)
    with pytest.raises(InputError, match=r"have 16 rows and 20 to 97 columns, so they"):
        custom.load(own.path)
    rewrite(own, (512, 32))
    with pytest.raises(InputError, match="512 snippets of width 32 or 32 snippets of"):
        custom.load(own.path)
    assert "512 snippets of width 32" in validate.validate(own.path).text()
    (own.path / "features" / "protocol.json").write_text('{"axes": "TD"}')
    assert custom.load(own.path).splits["train"].videos[0].width == 32


def test_detection_names_a_file_of_another_width(tmp_path):
    for name, shape in (("a", (8, 40)), ("b", (9, 8))):
        np.save(tmp_path / f"{name}.npy", np.ones(shape, np.float32))
    errors: list[InputError] = []
    found = inputs.find_inputs([tmp_path])
    read = list(inputs.read_all_features(found, None, 16, width=8, errors=errors))
    assert [s.name for s, _ in read] == ["b"]
    assert "a.npy: features of 8 snippets, 40 wide; the model takes 8" in str(errors[0])
    assert "are they [width, snippets]?" in str(errors[0])


def test_four_axes_are_refused(own):
    rewrite(own, (1, 10, 4, 6))
    with pytest.raises(
        InputError, match=r"expected \[snippets, width\] or, of several"
    ):
        custom.load(own.path)


def test_an_axis_too_many(own):
    rewrite(own, (4, 10, 1))
    with pytest.raises(InputError, match="would be 1 wide; save them without the last"):
        custom.load(own.path)
