"""`extract --dtype`: features of the two precisions, and folders that have one."""

import json

import numpy as np
import pytest
from sample_videos import write_video

from wsvad_jax import extract
from wsvad_jax.data import sidecar
from wsvad_jax.datasets.custom import read_protocol
from wsvad_jax.parallel.precision import resolve_dtype
from wsvad_jax.utils.errors import InputError


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "one.mp4", 20)


def run(*arguments):
    return extract.main([str(a) for a in arguments])


def test_half_precision_is_near_and_is_noted(tmp_path, video, clip, capsys):
    full, half = tmp_path / "full", tmp_path / "half"
    command = video, "--clip", clip, "--output"
    run(*command, full)
    run(*command, half, "--dtype", "bfloat16", "--compare", full)
    a, b = (np.load(path / "one.npy")[0].astype("f") for path in (full, half))
    assert (a != b).any()
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    assert ((a * b).sum(1) / lengths > 0.999).all()

    for path, dtype in ((full, "float32"), (half, "bfloat16")):
        assert sidecar.read(path / "one.json").dtype == dtype
        assert read_protocol(path / "protocol.json")[0].dtype == dtype


def test_auto_is_the_precision_of_this_machine(tmp_path, video, clip):
    run(video, "--clip", clip, "--output", tmp_path, "--dtype", "auto")
    assert sidecar.read(tmp_path / "one.json").dtype == resolve_dtype("auto")


def test_a_folder_of_an_older_version_has_float32(tmp_path, video, clip, capsys):
    command = video, "--clip", clip, "--output", tmp_path
    run(*command)
    for path in (tmp_path / "protocol.json", tmp_path / "one.json"):
        older = {k: v for k, v in json.loads(path.read_text()).items() if k != "dtype"}
        path.write_text(json.dumps(older))

    run(*command)
    assert "0 extracted, 1 already there" in capsys.readouterr().out
    with pytest.raises(InputError, match="dtype float32 there and bfloat16 now"):
        run(*command, "--dtype", "bfloat16")
