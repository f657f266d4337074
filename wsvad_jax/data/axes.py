"""Which axis of a feature array is what: [T, D], [N, T, D] or [T, N, D].

A file of three axes can be read in two ways. What decides, in this order:

1. `"axes": "NTD"` or `"TND"` in the features' protocol.json; extraction's own layout.
2. A sidecar: the file's number of crops and of snippets.
3. All files together: the axis that is one number in every file while the other
   varies, if that number is a usual one (1, 5, 10; or protocol.json's "crops"), or up
   to 10 while at most half of the others are usual ones.
4. The axis that holds a usual number of crops, where the other one doesn't; of several
   files, in more than half of them.
5. [N, T, D], the documented layout, where no axis holds a usual number of crops and the
   first one, up to 10, is the shorter; of several files, in all that rule 4 leaves.

Anything else is refused with both readings.
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
ABOVE = 4  # folders above a feature file in which its protocol.json is looked for
# Widths of common encoders; 256 is left out, since it is a common number of snippets.
WIDTHS = (512, 640, 768, 1024, 1152, 1280, 1408, 1536, 1664, 2048, 3072, 4096)
OPEN = "?"  # of files that say both
WORDS = ("crop", "snippet")
Shape = tuple[int, ...]


class StatedAxes:
    """What protocol.json files say of arrays' axes; each file is read once."""

    def __init__(self):
        self.read: dict[pathlib.Path, dict | None] = {}

    def of(self, path: pathlib.Path) -> tuple[str, tuple[int, ...]]:
        """Returns a file's axes, "" unknown, and the numbers of crops it may hold.

        Raises:
          InputError: a protocol.json whose axes are none.
        """
        where, found = self.file_of(path)
        crops = found.get("crops")
        usual = (crops,) if isinstance(crops, int) and crops > 0 else CROPS
        axes = found.get(KEY, "NTD" if found.get("layout") == "one" else "")
        if axes and axes not in CHOICES:
            raise InputError(
                f"{where}: {KEY} must be one of {', '.join(CHOICES)}, found {axes!r:.60}"
            )
        return axes, usual

    def file_of(self, path: pathlib.Path) -> tuple[pathlib.Path, dict]:
        """Returns the protocol.json that holds for a feature file, and its content.

        Without one, the feature file itself and an empty object.

        Raises:
          InputError: a protocol.json with values that none has.
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
    """Tells [N, T, D] from [T, N, D] for the files of one dataset, one of three axes each.

    Args:
      arrays: each file and the shape in its header.
      crops: numbers of crops that are expected, where protocol.json has none.

    Returns:
      each file's axes, or why they can't be known.
    """
    stated, usual = StatedAxes(), CROPS
    found: list[str | InputError] = []
    for path, shape in arrays:
        try:
            axes, usual = stated.of(path)
            if axes == "TD":
                raise InputError(
                    f"{path}: features of shape {list(shape)}, but protocol.json says "
                    f'{{"{KEY}": "TD"}}, [snippets, width]; correct that file, or save '
                    "the features so"
                )
            found.append(axes if axes in LAYOUTS else _of_sidecar(path, shape))
        except InputError as e:
            found.append(e)

    # One layout holds for a folder, so its files decide together.
    left = [i for i, axes in enumerate(found) if axes == ""]
    pairs = [arrays[i][1][:2] for i in left]
    expected = tuple(crops) if crops and usual == CROPS else usual
    layout, voted, usual = _together(pairs, (expected, CROPS))
    for i in left:
        path, shape = arrays[i]
        if voted and _vote(shape, usual) not in (layout, ""):
            found[i] = _against(path, shape, layout)
        elif layout in LAYOUTS:
            found[i] = layout
        else:
            found[i] = _refusal(path, shape)
    return found


def _together(
    pairs: Sequence[Shape], choices: Sequence[tuple[int, ...]]
) -> tuple[str, bool, tuple[int, ...]]:
    """Returns the layout ("", OPEN undecided), whether single files decide, by which crops."""
    for usual in choices:
        if layout := _constant(pairs, usual):
            return layout, False, usual
        if layout := _voted(pairs, usual):
            return layout, True, usual

    # Without a majority, no file may say another order than the rest, or none.
    single = {_vote(pair, usual) or _alone(pair, usual) for pair in pairs}
    return (single.pop() if len(single) == 1 else ""), False, usual


def _of_sidecar(path: pathlib.Path, shape: Shape) -> str:
    """Returns the axes that a sidecar's numbers fit; "" without one."""
    beside = sidecar.sidecar_path(path)
    if not os.path.isfile(beside):  # nor may its name be too long
        return ""
    side = sidecar.read(beside)
    sizes = side.crops, len(side.seconds)
    # One that fits neither way is reported where sidecars are compared.
    return "TND" if shape[:2] == sizes[::-1] != sizes else "NTD"


def _constant(pairs: Sequence[Shape], usual: tuple[int, ...]) -> str:
    """Returns the layout in which the number of crops is the same and lengths differ.

    OPEN: so it seems, but most files' lengths are usual numbers of crops.
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
    """Returns the layout that most arrays show, by a usual number of crops.

    Arrays in which both axes are usual show nothing; those in which none is count.
    """
    if pairs and all(pair == (1, 1) for pair in pairs):
        return "NTD"  # both readings are the same
    votes = Counter(_vote(pair, usual) for pair in pairs if not {*pair[:2]} <= {*usual})
    return next((x for x in LAYOUTS if votes[x] > votes.total() / 2), "")


def _vote(shape: Shape, usual: tuple[int, ...]) -> str:
    first, second = (n in usual for n in shape[:2])
    return "" if first == second else "NTD" if first else "TND"


def _alone(shape: Shape, usual: tuple[int, ...]) -> str:
    a, b = shape[:2]
    return "NTD" if a < b and a <= MOST and not {a, b} & {*usual} else ""


def _against(path: pathlib.Path, shape: Shape, layout: str) -> InputError:
    names = {"NTD": "[crops, snippets, width]", "TND": "[snippets, crops, width]"}
    other = names["TND" if layout == "NTD" else "NTD"]
    return InputError(
        f"{path}: features of shape {list(shape)} look like {other}, but most files are "
        f"{names[layout]}; save all in one layout"
    )


def _refusal(path: pathlib.Path, shape: Shape) -> InputError:
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
    """Says where arrays were read in another layout than the documented one.

    Args:
      layouts: each video's axes and number of crops.
    """
    turned = Counter(crops for axes, crops in layouts if axes == "TND")
    return [
        f"feature arrays of {_count(n, 'video')} are read as [snippets, crops, width], "
        f"{_count(crops, 'crop')}"
        for crops, n in turned.items()
    ]


def check_turned(sizes: Sequence[tuple[pathlib.Path, int, int]]) -> None:
    """Looks for arrays [width, snippets] among those taken for [snippets, width].

    Args:
      sizes: each video's file, snippets and width.

    Raises:
      InputError: all have one number of rows, and their columns differ as lengths of
        videos do; or all are alike, and only the rows are as many as encoders make.
    """
    rows, columns = {T for _, T, _ in sizes}, Counter(D for *_, D in sizes)
    if len(sizes) < 2 or len(rows) > 1:
        return
    path, A = sizes[0][0], min(rows)
    many = max(columns.values())
    if len(sizes) > 2 and len(columns) > 1 and many <= len(sizes) / 2:
        raise InputError(
            f"{path}: all {len(sizes)} feature arrays have {A} rows and {min(columns)} "
            f"to {max(columns)} columns, so they are [width, snippets]; save them as "
            "[snippets, width] (array.T)"
        )
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
