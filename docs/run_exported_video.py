"""Scores a video with a program of `wsvad export --video`, without wsvad_jax.

  python run_exported_video.py FILE VIDEO

FILE is the program; FILE.json lies beside it. VIDEO is a file, an address (rtsp://,
http://), a camera (/dev/video0), or - for a stream on standard input. It prints a line of
JSON per snippet. It needs NumPy and PyAV, and onnxruntime or JAX with flatbuffers:

  pip install numpy av onnxruntime          for FILE.onnx
  pip install numpy av jax flatbuffers      for FILE.stablehlo
"""

import json
import sys

import av
import numpy as np


def load(path, kind):
    """Returns the program as a function of arrays."""
    if kind == "onnx":
        import onnxruntime

        providers = onnxruntime.get_available_providers()
        session = onnxruntime.InferenceSession(path, providers=providers)
        names = [value.name for value in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))
    import jax.export

    with open(path, "rb") as file:
        return jax.jit(jax.export.deserialize(bytearray(file.read())).call)


def upright(frame):
    """Returns a frame as RGB, turned and mirrored by its display matrix."""
    picture = frame.to_ndarray(format="rgb24")
    try:
        matrix = np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32)
    except KeyError:
        return picture
    except ValueError:  # PyAV doesn't know other data of the frame
        return np.rot90(picture, round(frame.rotation / 90))
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) > abs(a):
        return picture.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def check(frame, aspect, size, square_size):
    """Ends the program if frames aren't those that it was exported for."""
    H, W = upright(frame).shape[:2]
    turned = (H, W) != (frame.height, frame.width)
    aspect = 1 / aspect if turned else aspect
    square = [H, round(W * aspect)] if aspect > 1 else [round(H / aspect), W]
    if [H, W] != size or square_size not in (None, square):
        sys.exit(
            f"frames of {H} x {W} pixels, {square[0]} x {square[1]} as shown; expected "
            f"{size[0]} x {size[1]}, {square_size} as shown: export with --size VIDEO"
        )


def decode(packet):
    """Returns the frames of a packet, none if it is damaged."""
    # An empty packet is a dropped frame; only the last one ends the decoder.
    if not packet.size and packet.dts is not None:
        return []
    try:
        return packet.decode()
    except av.error.InvalidDataError:
        return []


def snippets(container, stride, frame):
    """Yields the frames of each snippet to encode, and its begin and end in seconds."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    last = {"first": 0, "middle": stride // 2, "mean": stride}[frame]
    begin, step = (container.start_time or 0) / 1e6, 1 / (stream.average_rate or 30)
    held, count, total, start = [], 0, 0, 0.0
    for packet in container.demux(stream):
        for picture in decode(packet):
            time = total * step if picture.time is None else picture.time - begin
            start = start if count else time
            held += [picture] if count <= last else []
            count, total = count + 1, total + 1
            if count == stride:
                yield chosen(held, count, frame), start, time + step
                held, count = [], 0
    if count:
        yield chosen(held, count, frame), start, time + step


def chosen(held, count, frame):
    """Returns the frames to encode of a snippet of `count` frames."""
    return [held[count // 2]] if frame == "middle" else held


def main(path, source):
    """Prints the scores of a source."""
    with open(f"{path}.json", encoding="utf-8") as file:
        about = json.load(file)
    step, names = load(path, about["format"]), about["class_names"]
    low = about["thresholds"]["low"]
    empty = [np.zeros(shape, kind) for kind, shape in about["inputs"].values()]
    pixels, _, window, length = empty
    kind = "v4l2" if source.startswith("/dev/video") else None
    with av.open("pipe:0" if source == "-" else source, format=kind) as container:
        aspect = container.streams.video[0].sample_aspect_ratio or 1
        for held, start, end in snippets(container, **about["snippets"]):
            check(held[0], aspect, *about["picture"].values())
            pixels[: len(held)] = [upright(frame) for frame in held]
            count = np.array(len(held), np.int32)
            score, *classes, window, length = step(pixels, count, window, length)
            line = {"time": round(float(start), 3), "end": round(float(end), 3)}
            line["anomaly"] = round(float(score), 6)
            if classes:
                abnormal = names[1 + int(np.argmax(classes[0][1:]))]
                line["class"] = names[0] if score < low else abnormal
            print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 3 else sys.exit(__doc__)
