"""Published splits: their classes exist, and the printed accuracies fit their counts."""

import itertools

import pytest

from wsvad_jax.data import cards
from wsvad_jax.datasets.open_vocabulary_splits import SPLITS, find_split

# Abnormal test videos of one class, from the released lists of VadCLIP.
TEST_VIDEOS = {
    "ucf": dict(
        zip(
            cards.UCF.class_names[1:],
            (2, 5, 9, 3, 13, 21, 5, 23, 5, 23, 21, 5, 5),
            strict=True,
        )
    ),
    "xd": {"B1": 107, "B2": 62, "B4": 99, "B5": 7, "B6": 93, "G": 85},
}
CARDS = {"ucf": cards.UCF, "xd": cards.XD}


@pytest.mark.parametrize("name", TEST_VIDEOS)
def test_a_published_split_has_the_published_counts(name):
    split, videos = SPLITS[name], TEST_VIDEOS[name]
    assert find_split(CARDS[name]) is split
    assert videos.keys() == set(CARDS[name].class_names[1:])
    in_base = sum(videos[c] for c in split.base)
    assert split.test_videos == (in_base, sum(videos.values()) - in_base)

    # An accuracy over n videos is k / n; one is printed with a single place.
    for published in split.published:
        counts = (sum(split.test_videos), *split.test_videos)
        for percent, n in zip(published.values.get("top1", ()), counts, strict=False):
            nearest = round(percent * n / 100)
            assert abs(100 * nearest / n - percent) < 0.011, published.model


def test_no_other_classes_of_xd_have_that_count():
    videos = TEST_VIDEOS["xd"]
    fitting = [
        set(chosen)
        for n in range(1, len(videos))
        for chosen in itertools.combinations(videos, n)
        if sum(videos[c] for c in chosen) == 262
    ]
    assert fitting == [set(SPLITS["xd"].base)]


def test_other_datasets_have_no_split():
    assert find_split(cards.SHANGHAITECH) is None
    own = cards.infer_card(["Normal", "Fire", "Fight"])
    assert find_split(own) is None
