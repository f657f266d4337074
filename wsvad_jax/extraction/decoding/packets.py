"""Reads the packets of a video up to a failure, and joins packets."""

from collections.abc import Callable, Iterator
from typing import Any


def join_packets(earlier: list[Any], packet: Any) -> Any:
    """Returns a packet with the data of earlier packets in front of its own."""
    if not earlier:
        return packet
    import av

    whole = av.Packet(b"".join(map(bytes, [*earlier, packet])))
    # Properties of the last packet, which is the one with the picture.
    whole.stream, whole.time_base = packet.stream, packet.time_base
    whole.pts, whole.dts = packet.pts, packet.dts
    whole.duration, whole.is_keyframe = packet.duration, packet.is_keyframe
    return whole


def demux_packets(
    container: Any, streams: list[Any], on_failure: Callable[[str], Any] = str
) -> Iterator[Any]:
    """Yields packets until the end of the file or a failure.

    Args:
      container: container opened by `av`.
      streams: streams whose packets are yielded.
      on_failure: callback with FFmpeg's reason for a failure.
    """
    import av.error

    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError):
            return
        except av.error.FFmpegError as e:
            on_failure(ffmpeg_reason(e))
            return
        yield packet


def ffmpeg_reason(error: Exception) -> str:
    """Returns FFmpeg's text of an error."""
    return getattr(error, "strerror", None) or str(error)
