"""Small video files of known content, and a tiny CLIP model for them."""

import fractions

import av
import numpy as np

from wsvad_jax.clip.random_snapshot import (
    EOS_TOKEN_ID,
    VOCAB_SIZE,
    write_random_snapshot,
)
from wsvad_jax.clip.towers import TextConfig, VisionConfig

TEXT = TextConfig(
    vocab_size=VOCAB_SIZE,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=77,
    projection_dim=16,
    eos_token_id=EOS_TOKEN_ID,
)
VISION = VisionConfig(
    image_size=32,
    patch_size=16,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    projection_dim=16,
)


def write_clip(directory, seed=0):
    """A whole snapshot of a tiny CLIP with random weights."""
    return write_random_snapshot(directory, text=TEXT, vision=VISION, seed=seed)


def write_video(path, count=40, size=(64, 48), *, times=None, rotation=0, audio=False):
    """Writes a video whose frame i is grey of level 4 i, with a bright top left."""
    W, H = size
    # The index in front makes a cut file readable up to the cut.
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.options = {"crf": "10", "g": "8"}
        stream.codec_context.time_base = fractions.Fraction(1, 1600)
        if rotation:
            stream.set_display_rotation(rotation)
        container.start_encoding()  # so that there is a file also of no frames
        for i in range(count):
            picture = np.full((H, W, 3), 4 * i % 256, np.uint8)
            picture[: H // 4, : W // 4] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = 100 * i if times is None else round(1600 * times[i])
            frame.time_base = fractions.Fraction(1, 1600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16000, 1024 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
