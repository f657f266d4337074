"""Transfer shows a shortcut that was planted, and none where there is none."""

import pytest

from wsvad_jax import benchmark
from wsvad_jax.datasets.demo.dataset import prepare_demo
from wsvad_jax.datasets.demo.worlds import WORLDS
from wsvad_jax.utils.files import read_json

VIDEOS = 20, 20  # for training and for the test
STEPS = 100  # seeds 0 to 3 fell by 0.74, 0.06, 0.05 and 0.04 without the stamp


@pytest.mark.slow
def test_a_model_that_learnt_the_stamp_falls_without_it(tmp_path):
    worlds = "demo_twin", "demo_stamp"
    paths = [prepare_demo(tmp_path / "data", VIDEOS, world=WORLDS[w]) for w in worlds]
    both = ",".join(map(str, paths))
    words = ["--models", "mil_ranking", "--seeds", "1", "--train", both, "--test", both]
    words += ["--output", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    assert benchmark.main(["transfer", *words, f"--config.clean.steps={STEPS}"]) == 0

    plain, stamped = (
        {
            test: cell["metrics"]["video_auc"]
            for test, cell in read_json(tmp_path / f"out/mil_ranking/{world}.json")[
                "tests"
            ].items()
        }
        for world in worlds
    )
    # Both worlds have the same videos, but for the stamp of the abnormal ones.
    assert stamped["demo_stamp"]["mean"] > stamped["demo_twin"]["mean"]
    assert stamped["demo_twin"]["drop"]["mean"] < -0.01
    low, high = plain["demo_stamp"]["drop"]["interval"]
    assert low <= 0 <= high
