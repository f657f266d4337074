"""Measures `detect --live` with several sources: CPU time, delay, and memory over time.

  python tests/support/measure_live.py --checkpoint DIR --clips A.mp4 B.mp4 C.mp4 D.mp4 \
      --minutes 30

Each clip is repeated for the stated minutes, at 16 frames per second and in the stated
size. Without --pace, the clips reach `detect` by named pipes, as fast as it takes them.
With --pace, they are files that are played at this multiple of real time, and what the
machine can't score is dropped.

The script prints CPU and wall seconds per second of video (all sources together), the
load of the machine, the snippets dropped, the delay, and the resident memory over time.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

FPS = 16


def write_clip(source: str, size: str, path: pathlib.Path) -> None:
    """Encodes a clip as a camera of 16 frames per second would send it."""
    filters = f"fps={FPS},scale={size.replace('x', ':')}"
    command = ["ffmpeg", "-v", "error", "-y", "-i", source, "-an", "-vf", filters]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-g", "32", str(path)]
    subprocess.run(command, check=True)


def repeat(clip: pathlib.Path, seconds: float, target: pathlib.Path):
    """Starts to repeat a clip into a file or pipe, without encoding it again."""
    command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", "-1", "-i", str(clip)]
    command += ["-t", str(seconds), "-c", "copy", "-f", "mpegts", str(target)]
    return subprocess.Popen(command)


def memory(process: int) -> float:
    """Returns the resident memory of a process in MiB."""
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    (line,) = [x for x in status.splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def cpu_seconds(process: int) -> float:
    """Returns the CPU time that a process has used so far."""
    fields = (
        pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    )
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(process, sources: int, step: float) -> None:
    """Reads the lines of `detect`, and prints what was measured."""
    ends: dict[str, float] = collections.defaultdict(float)
    delays, due, begun = [], 0.0, None
    dropped = {}
    for text in process.stdout:
        line = json.loads(text)
        if line["type"] == "snippet":
            # Loading and compiling come before the first snippets.
            begun = begun or (time.monotonic(), cpu_seconds(process.pid))
            ends[line["source"]] = line["end"]
            dropped[line["source"]] = line["dropped"]
            delays.append(line["behind"])
            now = min(ends.values()) if len(ends) == sources else 0.0
            if now >= due:
                due += step
                print(
                    f"{now / 60:6.1f} min  {memory(process.pid):7.1f} MiB", flush=True
                )
            last = time.monotonic(), cpu_seconds(process.pid)
    process.wait()

    seconds = max(ends.values())
    wall, cpu = (after - before for after, before in zip(last, begun, strict=True))
    print(f"{seconds:.0f} s of video from each of {sources} sources")
    print(f"CPU seconds per second of video, all sources together: {cpu / seconds:.3f}")
    print(f"wall seconds per second of video: {wall / seconds:.3f}")
    print(f"load of the machine (1, 5, 15 minutes): {os.getloadavg()}")
    print(f"snippets: {len(delays)} scored, {sum(dropped.values())} dropped")
    middle, most = np.quantile(delays, (0.5, 0.99))
    print(f"delay: median {middle:.3f} s, 99th percentile {most:.3f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--clips", nargs="+", required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--pace", type=float)
    known = parser.parse_args()

    seconds = 60 * known.minutes
    command = [sys.executable, "-m", "wsvad_jax.detect", "--checkpoint"]
    command += [known.checkpoint, "--pace", str(known.pace or 0)]
    with tempfile.TemporaryDirectory() as folder:
        writers = []
        for k, source in enumerate(known.clips):
            clip = pathlib.Path(folder) / f"clip{k}.mp4"
            target = pathlib.Path(folder) / f"camera{k}.ts"
            write_clip(source, known.size, clip)
            if known.pace:
                repeat(clip, seconds, target).wait()
            else:
                os.mkfifo(target)
                writers.append(repeat(clip, seconds, target))
            command += ["--live", str(target)]

        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            watch(process, len(known.clips), seconds / 12)
        finally:
            for child in (process, *writers):
                child.kill()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
