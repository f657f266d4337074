"""Trained on the demo, a model finds the events of unseen demo videos."""

import pytest
from event_matching import matches

from wsvad_jax import detect
from wsvad_jax.datasets import ground_truth
from wsvad_jax.detection import inputs
from wsvad_jax.experiment.config import load_config
from wsvad_jax.training.run import train_seeds
from wsvad_jax.utils.files import cache_dir

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def trained(own_cache, tmp_path_factory):
    """The folder with a run of DSANet per seed, trained as the recipe says."""
    import jax
    from tiny import REPOSITORY

    folder = tmp_path_factory.mktemp("runs")
    jax.config.update("jax_disable_most_optimizations", False)  # of a long training
    config = load_config([f"--config={REPOSITORY}/configs/dsanet.py"])
    train_seeds(config, ",".join(map(str, SEEDS)), folder, together=True)
    return folder


@pytest.mark.slow
def test_true_events_of_unseen_demo_videos_are_found(trained, capsys):
    demo = cache_dir() / "data" / "demo" / "world"
    truth = ground_truth.read_json(demo / "test_segments.json")
    shares = []
    for seed in SEEDS:
        videos = inputs.find_inputs([demo / "videos" / f"{name}.mp4" for name in truth])
        made = detect.detect_videos(
            detect.Detector(trained / f"seed{seed}"), videos, ground_truth=truth
        )
        assert len(made) == len(truth)

        pairs = [p for a in made for p in matches(a.events, a.ground_truth or ())]
        true = sum(len(a.ground_truth or ()) for a in made)
        found = sum(len(a.events) for a in made)
        normal = sum(len(a.events) for a in made if not a.ground_truth)
        named = sum(f.category == t.category for f, t in pairs)
        with capsys.disabled():
            print(
                f"\nseed {seed}: {len(pairs)} of {true} true events found at IoU >= 0.3 "
                f"({len(pairs) / true:.0%}), {named} of them with their class; "
                f"{found - len(pairs)} other events, {normal} of them in "
                f"{sum(not a.ground_truth for a in made)} normal videos"
            )
        shares.append(len(pairs) / true)

    assert min(shares) >= 0.8
