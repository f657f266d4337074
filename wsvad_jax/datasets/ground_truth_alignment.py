"""Aligns ground truth with a video's features, labels and length.

A video has as many frames as its features have snippets, times the stride. A length in
the ground truth that differs from that is an error.
"""

from collections.abc import Sequence

from wsvad_jax.data.cards import Card, suggest_class
from wsvad_jax.data.video_names import normalize_label
from wsvad_jax.datasets.ground_truth import GroundTruth
from wsvad_jax.utils.errors import InputError


def align_ground_truth(
    truth: GroundTruth | None,
    video: str,
    label: Sequence[int],
    num_snippets: int,
    card: Card,
    *,
    num_frames: int = 0,
    slack: int = 0,
    strict: bool = True,
) -> tuple[tuple[tuple[int, int, int], ...], list[str]]:
    """Returns a test video's events (start, end, class) in frames, and remarks.

    Args:
      truth: ground truth of the video; None if no file has it.
      video: name of the video, for messages.
      label: class indices of the video.
      num_snippets: length of the features.
      card: card with the classes and the stride.
      num_frames: exact length; 0 means num_snippets times the stride.
      slack: snippets that the features may lack or have too many; a remark says so.
      strict: whether the file was made for these features. If so, events must end
        within the snippets (or the length that the file states) and have one of the
        video's labels. If not, as for public files made for the videos, an event may
        end in the snippet that the features cut off. A class that is no label of the
        video, or is not stated, gives a remark.

    Raises:
      InputError: lengths, classes or labels disagree; names the video.
    """
    frames = num_frames or num_snippets * card.stride
    if truth is None:
        if any(label):
            raise InputError(
                f"video {video} is labelled {_label_text(label, card)}, but no truth "
                "file has it; add its segments"
            )
        return (), []

    # Events are clipped to the video, and dropped if nothing is left of them.
    where, T, events = f"{truth.source}: video {video}", num_snippets, []
    remarks = _check_length(truth, where, T, card.stride, slack, strict)
    for event in truth.events:
        c, new_remarks = _event_class(event, label, where, frames, card, strict)
        remarks += new_remarks
        if c and event[0] < frames:
            events.append((event[0], min(event[1], frames), c))
        if frames < event[1] <= T * card.stride:
            remarks.append(f"{where} has an event past its {frames} frames; clipped")

    if any(label) and not events:
        raise InputError(
            f"{where} is labelled {_label_text(label, card)}, but has no event within "
            f"its {frames} frames; add its segments"
        )

    without_class = not all(name for *_, name in truth.events)
    if not strict and without_class and sum(map(bool, label)) > 1:
        remarks.append(
            f"{where} has several labels and events without class, which take the first"
        )
    return tuple(events), remarks


def _check_length(
    truth: GroundTruth,
    where: str,
    num_snippets: int,
    stride: int,
    slack: int,
    strict: bool,
) -> list[str]:
    """Compares the lengths of ground truth and features; returns remarks."""
    frames = num_snippets * stride
    last = max((end for _, end, _ in truth.events), default=0)

    # The features may round a stated length down or up to whole snippets.
    if truth.frames is not None:
        if last > truth.frames:
            raise InputError(
                f"{where} has an event that ends at frame {last}, past its "
                f"{truth.frames} frames; correct one of them"
            )
        least, most = truth.frames // stride, -(-truth.frames // stride)
        off = max(least - num_snippets, num_snippets - most, 0)
        known = f"is {truth.frames} frames long"
    else:
        # Without a stated length, the last event must still fit.
        spare = 0 if strict else stride - 1
        off = max(-(-(last - spare - frames) // stride), 0)
        known = f"has an event that ends at frame {last}"

    if not off:
        return []

    text = f"{where} {known}, but its features are {frames} frames long "
    text += f"({num_snippets} snippets of {stride})"
    if off > slack:
        raise InputError(
            f"{text}; correct the segment or the features"
            + ("" if off > 1 else ", or allow one snippet of slack with --slack 1")
        )
    return [f"{text}; clipped"]


def _event_class(
    event: tuple[int, int, str],
    label: Sequence[int],
    where: str,
    frames: int,
    card: Card,
    strict: bool,
) -> tuple[int, list[str]]:
    """Returns an event's class index, compared with the video's labels, and remarks."""
    start, end, name = event[0], event[1], normalize_label(event[2])
    c = _class_index(name, label, where, card, strict)

    # Released files give a normal video one segment, which is the whole video.
    whole = start == 0 and end > frames - card.stride
    if not (c or any(label) or name or whole):
        raise InputError(
            f"{where} is labelled {card.class_names[0]}, but has the event "
            f"[{start}, {end}]; correct its label or remove the event"
        )
    if not c or c in label:
        return c, []

    text = f"{where} is labelled {_label_text(label, card)}, but has an event of class "
    text += card.class_names[c]
    if strict or not any(label):
        raise InputError(f"{text}; correct one of them")
    return c, [text]


def _class_index(
    name: str, label: Sequence[int], where: str, card: Card, strict: bool
) -> int:
    if name:
        if name not in card.class_names:
            raise InputError(
                f"{where} has an event of class {name!r} that no class has"
                f"{suggest_class(name, card.class_names)}; the classes are "
                f"{', '.join(card.class_names)}"
            )
        return card.index(name)

    # An event without class takes the video's label, if that is one class.
    abnormal = [c for c in label if c]
    if len(abnormal) > 1 and strict:
        raise InputError(
            f"{where} has the labels {_label_text(label, card)}, so each of its segments "
            "needs its class: [start, end, class]"
        )
    return abnormal[0] if abnormal else 0


def _label_text(label: Sequence[int], card: Card) -> str:
    return "+".join(card.class_names[c] for c in label)
