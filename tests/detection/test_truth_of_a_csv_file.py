"""`detect --ground_truth` reads the CSV form of true events, as `prepare` does."""

import numpy as np
import pytest
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.utils.files import read_json


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return write_model(tiny, "mil_ranking", tmp_path_factory.mktemp("csv") / "model")


@pytest.mark.parametrize("name", ("truth.csv", "TRUTH.CSV"))
def test_events_of_a_table_are_shown(model, tmp_path, capsys, name):
    for video in "ab":
        np.save(tmp_path / f"{video}.npy", np.eye(20, 32, dtype=np.float16))
    table = tmp_path / name
    table.write_text(
        "video,start,end,label\na.mp4,1.5,4,Fire\na.mp4,0:05,6.5,\nnone,1,2,Fire\n"
    )
    inputs = [tmp_path / "a.npy", tmp_path / "b.npy", "--checkpoint", model]
    words = ["--ground_truth", table, "--fps", 30, "--output", tmp_path / "out"]
    assert detect.main([str(word) for word in (*inputs, *words)]) == 0

    a, b = read_json(tmp_path / "out/events.json")["videos"]
    assert [(e["start"], e["end"], e["class"]) for e in a["truth"]] == [
        (1.5, 4.0, "Fire"),
        (5.0, 6.5, "anomaly"),
    ]
    assert b.get("truth") is None
    err = capsys.readouterr().err
    assert "ground truth without a video: none" in err
    assert "videos without ground truth: b" in err
