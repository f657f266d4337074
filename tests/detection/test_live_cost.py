"""What a live snippet costs: one picture, one window, and no compilation."""

import numpy as np
import pytest
from untrained import write_model

from wsvad_jax.detection.detector import Detector
from wsvad_jax.detection.live_scorer import LiveScorer


@pytest.fixture(scope="module")
def detector(tiny, tmp_path_factory):
    """A model whose classes are words."""
    folder = tmp_path_factory.mktemp("model")
    made = write_model(tiny, "vadclip", folder, frame="middle")
    return Detector(made, clip=str(tiny.clip))


def test_a_snippet_costs_one_window_and_compiles_nothing(detector, monkeypatch):
    live = LiveScorer(detector)
    scorer, encoder = detector.scorer, live.encoder
    programs = scorer.program, encoder.extractor.encode
    compiled = [program._cache_size() for program in programs]

    batches, pictures, texts = [], [], []
    score_batch, encode = scorer.score_batch, encoder.extractor.encode

    def count_windows(weights, features, length, batch_size):
        batches.append((features.shape, batch_size))
        return score_batch(weights, features, length, batch_size)

    def count_pictures(params, batch):
        pictures.append(len(batch))
        return encode(params, batch)

    monkeypatch.setattr(scorer, "score_batch", count_windows)
    monkeypatch.setattr(scorer, "_encode_text", texts.append)
    monkeypatch.setattr(encoder.extractor, "encode", count_pictures)

    # More snippets than a window holds.
    window, size = live.new_window(), encoder.extractor.config.image_size
    random = np.random.RandomState(0)
    count = detector.T + 3
    for _ in range(count):
        picture = random.randint(0, 256, (encoder.crops, size, size, 3)).astype("u1")
        live.score([window], [(picture,)])

    shape = (1, encoder.crops, detector.T, detector.width)
    assert batches == [(shape, 1)] * count
    assert pictures == [encoder.crops] * count
    assert not texts
    assert [program._cache_size() for program in programs] == compiled
