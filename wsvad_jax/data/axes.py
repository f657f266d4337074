"""Infers the axes of a feature array: [T, D], [N, T, D] or [T, N, D].

A file of three axes has two readings. These rules decide, in this order:

1. protocol.json: `"axes": "NTD"` or `"TND"`, or the layout that extraction writes.
2. The sidecar: its numbers of crops and snippets.
3. All files together: the axis with one constant size while the other varies. The size
   must be a usual number of crops: 1, 5, 10, or "crops" in protocol.json. Other sizes
   up to 10 count if at most half of the other axis' sizes are usual numbers.
4. The only axis with a usual number of crops; for several files, a majority decides.
5. [N, T, D], the documented layout, if no axis has a usual number of crops and the
   first axis is the shorter one and at most 10. For several files, this must hold for
   all files that rule 4 leaves open.

Everything else is an error that states both readings.
"""

import os
import pathlib
from collections import Counter
from collections.abc import Collection, Sequence

from wsvad_jax.data import feature_protocols, sidecar
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

CROPS, MOST = (1, 5, 10), 10  # usual numbers of crops, and the largest
LAYOUTS = ("NTD", "TND")
KEY, CHOICES = "axes", ("TD", *LAYOUTS)  # in protocol.json
ABOVE = 4  # number of parent folders that are searched for protocol.json
# Widths of common encoders, without 256, which is a common number of snippets.
WIDTHS = (512, 640, 768, 1024, 1152, 1280, 1408, 1536, 1664, 2048, 3072, 4096)
OPEN = "?"  # layout of files that fit both readings
WORDS = ("crop", "snippet")
Shape = tuple[int, ...]


class StatedAxes:
    """Axes stated by protocol.json files, each of which is read once."""

    def __init__(self):
        self.read: dict[pathlib.Path, dict | None] = {}

    def of(self, path: pathlib.Path) -> tuple[str, tuple[int, ...]]:
        """Returns a file's axes ("" unknown) and its usual numbers of crops.

        Raises:
          InputError: protocol.json states invalid axes.
        """
        source, protocol = self.file_of(path)
        crops = protocol.get("crops")
        usual = (crops,) if isinstance(crops, int) and crops > 0 else CROPS
        axes = protocol.get(KEY, "NTD" if protocol.get("layout") == "one" else "")
        if axes and axes not in CHOICES:
            raise InputError(
                f"{source}: {KEY} must be one of {', '.join(CHOICES)}, found {axes!r:.60}"
            )
        return axes, usual

    def file_of(self, path: pathlib.Path) -> tuple[pathlib.Path, dict]:
        """Returns the path and content of the protocol.json for a feature file.

        Without one, returns the feature file itself and an empty dict.

        Raises:
          InputError: protocol.json has an invalid value.
        """
        for folder in list(path.parents)[:ABOVE]:
            if (value := self._protocol(folder)) is not None:
                where = folder / "protocol.json"
                return where, feature_protocols.checked(where, value)
        return path, {}

    def _protocol(self, folder: pathlib.Path) -> dict | None:
        if folder not in self.read:
            path = folder / "protocol.json"
            value = files.read_json(path) if path.is_file() else None
            self.read[folder] = value if isinstance(value, dict) else None
        return self.read[folder]


def choose_layouts(
    arrays: Sequence[tuple[pathlib.Path, Shape]], crops: Collection[int] = ()
) -> list[str | InputError]:
    """Distinguishes [N, T, D] from [T, N, D] for the 3-D arrays of one dataset.

    Args:
      arrays: path and shape of each file.
      crops: expected numbers of crops, if protocol.json states none.

    Returns:
      Axes of each file, or the error if they are ambiguous.
    """
    stated, usual = StatedAxes(), CROPS
    layouts: list[str | InputError] = []

    # Rules 1 and 2: statements about single files.
    for path, shape in arrays:
        try:
            axes, usual = stated.of(path)
            if axes == "TD":
                raise InputError(
                    f"{path}: features of shape {list(shape)}, but protocol.json says "
                    f'{{"{KEY}": "TD"}}, [snippets, width]; correct that file, or save '
                    "the features so"
                )
            layouts.append(axes if axes in LAYOUTS else _of_sidecar(path, shape))
        except InputError as e:
            layouts.append(e)

    # Rules 3 to 5: a dataset has one layout, so its other files decide together.
    left = [i for i, axes in enumerate(layouts) if axes == ""]
    pairs = [arrays[i][1][:2] for i in left]
    expected = tuple(crops) if crops and usual == CROPS else usual
    layout, voted, usual = _common_layout(pairs, (expected, CROPS))

    for i in left:
        path, shape = arrays[i]
        if voted and _vote(shape, usual) not in (layout, ""):
            layouts[i] = _contradiction(path, shape, layout)
        elif layout in LAYOUTS:
            layouts[i] = layout
        else:
            layouts[i] = _ambiguity(path, shape)
    return layouts


def _common_layout(
    pairs: Sequence[Shape], choices: Sequence[tuple[int, ...]]
) -> tuple[str, bool, tuple[int, ...]]:
    """Returns the layout ("" or OPEN undecided), whether it was voted, and usual crops."""
    for usual in choices:
        if layout := _constant(pairs, usual):
            return layout, False, usual
        if layout := _voted(pairs, usual):
            return layout, True, usual

    # Without a majority, all files must show the same order.
    single = {_vote(pair, usual) or _alone(pair, usual) for pair in pairs}
    return (single.pop() if len(single) == 1 else ""), False, usual


def _of_sidecar(path: pathlib.Path, shape: Shape) -> str:
    """Returns the axes that agree with the sidecar; "" without a sidecar."""
    beside = sidecar.sidecar_path(path)
    if not os.path.isfile(beside):  # nor may its name be too long
        return ""
    side = sidecar.read(beside)
    sizes = side.crops, len(side.seconds)
    # A sidecar that fits neither reading is reported where sidecars are compared.
    return "TND" if shape[:2] == sizes[::-1] != sizes else "NTD"


def _constant(pairs: Sequence[Shape], usual: tuple[int, ...]) -> str:
    """Returns the layout with a constant number of crops and varying lengths.

    OPEN means that most lengths are usual numbers of crops, too.
    """
    sizes = [{pair[axis] for pair in pairs} for axis in (0, 1)]
    for axis, layout in enumerate(LAYOUTS):
        held, other = sizes[axis], sizes[1 - axis]
        if len(held) > 1 or len(other) < 2:
            continue

        number = min(held)
        if number in usual:
            return layout
        if number > MOST or other <= {*usual}:
            continue

        # A few lengths may be 1, 5 or 10 by chance, but hardly most of them.
        if sum(pair[1 - axis] in usual for pair in pairs) <= len(pairs) / 2:
            return layout
        if number < min(other):
            return OPEN
    return ""


def _voted(pairs: Sequence[Shape], usual: tuple[int, ...]) -> str:
    """Returns the layout of most arrays, by their usual number of crops.

    Arrays with two usual axes don't vote; those without any count in the total.
    """
    if pairs and all(pair == (1, 1) for pair in pairs):
        return "NTD"  # both readings are the same
    votes = Counter(_vote(pair, usual) for pair in pairs if not {*pair[:2]} <= {*usual})
    return next((x for x in LAYOUTS if votes[x] > votes.total() / 2), "")


def _vote(shape: Shape, usual: tuple[int, ...]) -> str:
    """Returns the layout that one array shows by rule 4, "" if undecided."""
    first, second = (n in usual for n in shape[:2])
    return "" if first == second else "NTD" if first else "TND"


def _alone(shape: Shape, usual: tuple[int, ...]) -> str:
    """Returns the layout that one array shows by rule 5, "" if undecided."""
    a, b = shape[:2]
    return "NTD" if a < b and a <= MOST and not {a, b} & {*usual} else ""


def _contradiction(path: pathlib.Path, shape: Shape, layout: str) -> InputError:
    names = {"NTD": "[crops, snippets, width]", "TND": "[snippets, crops, width]"}
    other = names["TND" if layout == "NTD" else "NTD"]
    return InputError(
        f"{path}: features of shape {list(shape)} look like {other}, but most files are "
        f"{names[layout]}; save all in one layout"
    )


def _ambiguity(path: pathlib.Path, shape: Shape) -> InputError:
    crops, snippets = ([_count(n, word) for n in shape[:2]] for word in WORDS)
    return InputError(
        f"{path}: features of shape {list(shape)} are {crops[0]} of {snippets[1]} or "
        f"{snippets[0]} of {crops[1]}; say which in the features' protocol.json: "
        f'{{"{KEY}": "NTD"}} (crops, snippets, width) or {{"{KEY}": "TND"}} (snippets, '
        "crops, width)"
    )


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' * (n != 1)}"


def remarks(layouts: Sequence[tuple[str, int]]) -> list[str]:
    """Returns sentences about arrays that aren't in the documented layout.

    Args:
      layouts: axes and number of crops of each video.
    """
    turned = Counter(crops for axes, crops in layouts if axes == "TND")
    return [
        f"feature arrays of {_count(n, 'video')} are read as [snippets, crops, width], "
        f"{_count(crops, 'crop')}"
        for crops, n in turned.items()
    ]


def check_transposed(sizes: Sequence[tuple[pathlib.Path, int, int]]) -> None:
    """Checks that 2-D arrays aren't [width, snippets].

    Args:
      sizes: file, snippets and width of each video.

    Raises:
      InputError: all arrays have the same number of rows, and their columns vary like
        video lengths; or all have one shape, and only the rows are an encoder's width.
    """
    rows, columns = {T for _, T, _ in sizes}, Counter(D for *_, D in sizes)
    if len(sizes) < 2 or len(rows) > 1:
        return

    # Columns that vary are lengths of videos.
    path, A = sizes[0][0], min(rows)
    many = max(columns.values())
    if len(sizes) > 2 and len(columns) > 1 and many <= len(sizes) / 2:
        raise InputError(
            f"{path}: all {len(sizes)} feature arrays have {A} rows and {min(columns)} "
            f"to {max(columns)} columns, so they are [width, snippets]; save them as "
            "[snippets, width] (array.T)"
        )

    # Arrays of one shape are suspect only if the rows look like an encoder's width.
    B = min(columns)
    if len(columns) > 1 or A not in WIDTHS or B in WIDTHS or B > A:
        return
    if StatedAxes().of(path)[0]:
        return
    raise InputError(
        f"{path}: all {len(sizes)} feature arrays are [{A}, {B}], {A} snippets of width "
        f"{B} or {B} snippets of width {A}; save the latter as [snippets, width] "
        f'(array.T), or say {{"{KEY}": "TD"}} in the features\' protocol.json'
    )
