"""Packets of a film: reading them up to a failure, and joining them."""

from collections.abc import Callable, Iterator
from typing import Any


def join_packets(before: list[Any], packet: Any) -> Any:
    """Returns a packet with the data of earlier ones in front."""
    if not before:
        return packet
    import av

    whole = av.Packet(b"".join(map(bytes, [*before, packet])))
    whole.stream, whole.time_base = packet.stream, packet.time_base
    whole.pts, whole.dts = packet.pts, packet.dts
    whole.duration, whole.is_keyframe = packet.duration, packet.is_keyframe
    return whole


def demux_packets(
    container: Any, streams: list[Any], broken: Callable[[str], Any] = str
) -> Iterator[Any]:
    """Yields the packets of streams until the end or a failure.

    Args:
      container: opened by `av`.
      streams: those of the container whose packets are yielded.
      broken: takes FFmpeg's reason of a failure.
    """
    import av.error

    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError):
            return
        except av.error.FFmpegError as e:
            broken(ffmpeg_reason(e))
            return
        yield packet


def ffmpeg_reason(error: Exception) -> str:
    """Returns what FFmpeg says of an error."""
    return getattr(error, "strerror", None) or str(error)
