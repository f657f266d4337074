"""Sidecars: what is written is read, and what is not a sidecar is told."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsvad_jax.data import sidecar
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.data.sidecar import Sidecar
from wsvad_jax.utils.errors import InputError

GOOD = Sidecar(
    video="a.mp4", encoder="clip@0123456789ab", weights_hash="0123456789abcdef",
    stride=16, frame="middle", crops=5, resize="stretch", image_size=224, fps=29.97,
    num_frames=33, seconds=(0.0, 0.5338, 1.0677), duration=1.1, damage="",
    source={"size": 10, "hash": "00"},
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    video=st.text(),
    damage=st.text(),
    seconds=st.lists(st.floats(0, 1e6)).map(tuple),
    num_frames=st.integers(0, 10**8),
)
def test_written_is_read(tmp_path_factory, video, damage, seconds, num_frames):
    path = tmp_path_factory.mktemp("s") / "a.json"
    side = dataclasses.replace(
        GOOD, video=video, damage=damage, seconds=seconds, num_frames=num_frames
    )
    side.write(path)
    assert sidecar.read(path) == side


def test_a_file_name_that_is_no_unicode(tmp_path):
    side = dataclasses.replace(
        GOOD, video=b"\xff\xfe.mp4".decode("utf-8", "surrogateescape")
    )
    side.write(tmp_path / "a.json")
    assert sidecar.read(tmp_path / "a.json") == side


def test_its_protocol_is_the_dataset_s():
    expected = FeatureProtocol(
        "clip@0123456789ab", 16, 5, "middle", "stretch", dtype="float32"
    )
    assert GOOD.protocol == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": "16"}, "stride must be a whole number, found '16'"),
        ({"stride": True}, "stride must be a whole number, found True"),
        ({"stride": 1.5}, "stride must be a whole number, found 1.5"),
        ({"seconds": [0, "1"]}, r"seconds\[1\] must be a finite number, found '1'"),
        ({"seconds": 3}, "seconds must be a list, found 3"),
        ({"fps": None}, "fps must be a finite number, found None"),
        ({"source": "x"}, "source must be an object, found 'x'"),
        ({"encoder": 1}, "encoder must be a text, found 1"),
    ],
)
def test_values_of_other_kinds_are_errors(tmp_path, change, message):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dataclasses.asdict(GOOD) | change))
    with pytest.raises(InputError, match=message) as e:
        sidecar.read(path)
    assert str(path) in str(e.value)


def test_what_is_no_sidecar_is_an_error(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match="no such file"):
        sidecar.read(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="expected a sidecar"):
        sidecar.read(path)
    path.write_text('{"name": "card"}')
    with pytest.raises(InputError, match="video is missing"):
        sidecar.read(path)
    fields = dataclasses.asdict(GOOD)
    del fields["damage"], fields["source"]
    path.write_text(json.dumps(fields | {"more": 1, "fps": 30}))
    assert sidecar.read(path).fps == 30.0


def test_where_it_lies(tmp_path):
    assert sidecar.sidecar_path("d/x.y.npy").as_posix() == "d/x.y.json"
    assert sidecar.sidecar_path(tmp_path / "v__12.npy") == tmp_path / "v.json"
    (tmp_path / "v__12.json").touch()  # a video whose name looks like a crop
    assert sidecar.sidecar_path(tmp_path / "v__12.npy") == tmp_path / "v__12.json"


def test_a_fingerprint_is_of_the_content(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"video" * 10)
    b.write_bytes(b"video" * 10)
    assert sidecar.fingerprint(a) == sidecar.fingerprint(b)
    b.write_bytes(b"vidEo" * 10)
    assert sidecar.fingerprint(a) != sidecar.fingerprint(b)
    a.write_bytes(bytes(3 << 20))
    b.write_bytes(bytes((3 << 20) - 1) + b"x")
    assert sidecar.fingerprint(a) != sidecar.fingerprint(b)
