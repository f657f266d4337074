"""On the demo, captions of what an event looks like find events of that kind."""

import pytest

from wsvad_jax.datasets import ground_truth, registry
from wsvad_jax.retrieval.search import VideoSearch

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


@pytest.mark.slow
def test_captions_find_their_events_among_the_first_ten(capsys):
    world = registry.resolve("demo").parent / "world"
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
