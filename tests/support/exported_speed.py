"""Compares the speed of `export --video` with that of `detect --live`, per snippet.

  python tests/support/exported_speed.py --checkpoint DIR VIDEO [--clip NAME|DIR]

Both get the same decoded pictures in turn, in one process. Prints medians in
milliseconds, and the median ratio of neighbouring calls with its quartiles.
"""

import argparse
import pathlib
import tempfile
import time

import jax
import numpy as np

from wsvad_jax.detection import export, export_video, live_scorer
from wsvad_jax.detection.detector import Detector
from wsvad_jax.extraction import video


def programs(detector, size, folder):
    """Returns a step function per format, as the runner in docs/ makes them."""
    path = export_video.export_video_model(detector, folder / "v.stablehlo", size=size)
    made = {"StableHLO": jax.jit(export.load(path).call)}
    try:
        import onnxruntime

        path = export_video.export_video_model(detector, folder / "v.onnx", size=size)
    except ImportError:
        return made
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    made["ONNX"] = lambda *arrays: session.run(
        None, dict(zip(export_video.INPUTS, arrays, strict=True))
    )
    return made


def package_step(detector):
    """Returns a function from the pictures of a snippet to its score, as `--live` does."""
    scorer = live_scorer.LiveScorer(detector)
    encoder, window = scorer.encoder, scorer.new_window()

    def step(pictures):
        crops = [encoder.extractor.crop(p)[encoder.chosen] for p in pictures]
        return scorer.score([window], [tuple(crops)])[0][0]

    return step


def main():
    """Prints a line per format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=pathlib.Path)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--clip")
    parser.add_argument("--rounds", type=int, default=100)
    known = parser.parse_args()

    detector = Detector(known.checkpoint, clip=known.clip)
    extractor = detector.extractor
    options = {"frame": extractor.frame, "stride": extractor.stride}
    to_picture = video.to_display_rgb if extractor.resize == "clip" else video.to_rgb
    reader = video.Video(known.video)
    snippets = [
        s.pictures
        for s in video.snippets(reader, preprocess=to_picture, **options)
        if s.num_frames == extractor.stride
    ]
    size = export_video.FrameSize(*snippets[0][0].shape[:2])

    with tempfile.TemporaryDirectory() as folder:
        own = package_step(detector)
        for name, step in programs(detector, size, pathlib.Path(folder)).items():
            described = export_video.VideoProgram(detector, size).arguments()
            _, _, window, length = [np.zeros(a.shape, a.dtype) for a in described]
            times = []
            for i in range(known.rounds + 5):
                pictures = snippets[i % len(snippets)]
                begin = time.perf_counter()
                own(pictures)
                middle = time.perf_counter()
                count = np.array(len(pictures), np.int32)
                score, *_, window, length = step(
                    np.stack(pictures), count, window, length
                )
                float(score)
                times.append((middle - begin, time.perf_counter() - middle))
            package, program = np.array(times[5:]).T * 1000
            low, ratio, high = np.quantile(program / package, (0.25, 0.5, 0.75))
            print(
                f"{name}: {np.median(program):.1f} ms, package {np.median(package):.1f} "
                f"ms, ratio {ratio:.2f} ({low:.2f} to {high:.2f})"
            )


if __name__ == "__main__":
    main()
