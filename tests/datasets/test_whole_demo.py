"""The whole demo: what a model learns on it is found again, and so is what words say.

The tests are in one file, so that one worker makes the demo and none waits for it.
"""

import pytest
from event_matching import matches

from wsvad_jax import detect
from wsvad_jax.datasets import ground_truth, registry
from wsvad_jax.detection import inputs
from wsvad_jax.experiment.config import load_config
from wsvad_jax.retrieval.search import VideoSearch
from wsvad_jax.training.run import train_and_evaluate

# Words for what is seen, never the name of a class.
CAPTIONS = {
    "Arson": (
        "flames and dark smoke",
        "a fire",
        "a person bent forward and flames",
        "black smoke",
        "small flames",
    ),
    "Explosion": (
        "a bright flash",
        "a flash of light and flying pieces",
        "a ball of fire",
        "a cloud of dust",
        "pieces flying through the air",
    ),
    "Fighting": (
        "two people with raised arms close together",
        "raised arms",
        "a person lying on the ground",
        "two people face to face with their arms up",
        "arms in the air",
    ),
    "RoadAccidents": (
        "two cars touching, smoke",
        "two cars touching",
        "a car against another car",
        "a tilted car",
        "two cars bumper to bumper and grey smoke",
    ),
}


@pytest.fixture(scope="module")
def world(own_cache):
    """The folder of the demo's videos and features."""
    return registry.resolve("demo").parent / "world"


@pytest.mark.slow
def test_true_events_of_unseen_demo_videos_are_found(world, tmp_path, capsys):
    """Trained as the recipe says, DSANet finds four of five."""
    import jax
    from tiny import REPOSITORY

    jax.config.update("jax_disable_most_optimizations", False)  # of a long training
    config = load_config([f"--config={REPOSITORY}/configs/dsanet.py"])
    train_and_evaluate(config, tmp_path / "run")

    truth = ground_truth.read_json(world / "test_segments.json")
    videos = inputs.find_inputs([world / "videos" / f"{name}.mp4" for name in truth])
    made = detect.detect_videos(
        detect.Detector(tmp_path / "run"), videos, ground_truth=truth
    )
    assert len(made) == len(truth)

    pairs = [p for a in made for p in matches(a.events, a.ground_truth or ())]
    true = sum(len(a.ground_truth or ()) for a in made)
    found = sum(len(a.events) for a in made)
    normal = sum(len(a.events) for a in made if not a.ground_truth)
    named = sum(f.category == t.category for f, t in pairs)
    with capsys.disabled():
        print(
            f"\n{len(pairs)} of {true} true events found at IoU >= 0.3 "
            f"({len(pairs) / true:.0%}), {named} of them with their class; "
            f"{found - len(pairs)} other events, {normal} of them in "
            f"{sum(not a.ground_truth for a in made)} normal videos"
        )
    assert len(pairs) >= 0.8 * true


@pytest.mark.slow
def test_captions_find_their_events_among_the_first_ten(world, capsys):
    """Captions of what an event looks like find events of that kind."""
    truth = ground_truth.read_json(world / "test_segments.json")
    search = VideoSearch([world / "features" / f"{name}.npy" for name in truth])
    if "random weights" in (search.clip_note(words=True) or ""):
        pytest.skip("the demo's CLIP model has random weights: it knows no words")

    # A moment is a hit if it overlaps an event of the kind in time.
    missed = []
    for kind, captions in CAPTIONS.items():
        for words in captions:
            moments = search(words, top=10)
            hits = [m.rank for m in moments if overlaps(m, truth[m.video], kind)]
            if not hits:
                missed.append((kind, words))
    total = sum(map(len, CAPTIONS.values()))
    with capsys.disabled():
        print(
            f"\n{total - len(missed)} of {total} captions find their event: {missed=}"
        )
    assert len(missed) <= 0.2 * total


def overlaps(moment, truth, kind):
    # Without a class, an event is of the video's label. A second has 16 frames.
    return any(
        (name or truth.label) == kind
        and moment.start < end / 16
        and start / 16 < moment.end
        for start, end, name in truth.events
    )
