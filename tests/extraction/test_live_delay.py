"""What passes between a live frame and its snippet."""

import time

import pytest
from sample_videos import write_video

from wsvad_jax.extraction.live_stream import SnippetStream, StreamSnippet
from wsvad_jax.extraction.live_video import LiveVideo
from wsvad_jax.extraction.video import Video, to_rgb


class Count:
    """Counts the packets that were read."""

    def __init__(self):
        self.packets = 0

    def opened(self, reader, offset):
        pass

    def packet(self, packet):
        self.packets += 1


def packets_ahead(path):
    """Packets that a decoder has read beyond each of its frames, at most."""
    video, count = LiveVideo(str(path), 0.0, "pipe"), Count()
    video.taps = (count,)
    ahead = [count.packets - n for n, _ in enumerate(video.frames(), 1)]
    return max(ahead)


def test_a_live_decoder_holds_back_one_frame_more_than_a_single_thread(
    tmp_path, monkeypatch
):
    path = write_video(tmp_path / "a.ts", 60)
    live, ahead = packets_ahead(path), {}
    for threads in (1, 8):
        monkeypatch.setattr(LiveVideo, "_threads", threads)
        ahead[threads] = packets_ahead(path)
    assert live <= ahead[1] + 1 < ahead[8]


def test_a_files_decoder_takes_all_cores(tmp_path):
    path = write_video(tmp_path / "a.ts", 20)
    assert LiveVideo(str(path), 1.0)._threads == Video(path)._threads == 0


@pytest.mark.parametrize("frame", ["middle", "mean"])
def test_the_delay_counts_from_the_last_frame(tmp_path, frame):
    """The conversion of a frame is part of it."""
    pause = 0.05

    def slow(decoded):
        time.sleep(pause)
        return to_rgb(decoded)

    options = {"frame": frame, "stride": 8, "preprocess": slow, "pace": 0.0}
    stream = SnippetStream(str(write_video(tmp_path / "a.ts", 8)), **options)
    with stream:
        while not isinstance(item := stream.take(10.0), StreamSnippet):
            assert item is None or item.kind == "open"
    assert time.monotonic() - item.ready >= pause
