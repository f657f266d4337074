"""Reads a file of many live sources: `detect --cameras FILE`, YAML or JSON.

cameras:
  - name: door
    source: rtsp://camera/stream
    calibration: door_calibration
  - name: yard
    source: /dev/video0
    rules: {high: 0.7, low: 0.4}

`name` may be missing, and then it is derived from the source. `calibration` is the folder
that `calibrate` wrote for this camera. `rules` are `high`, `low`, `min_length` and
`max_gap`; a camera with a calibration has those of the calibration. Relative paths start
at the file's folder.
"""

import pathlib
from typing import Annotated, Any

from pydantic import Field

from wsvad_jax.detection.calibration import read_calibration
from wsvad_jax.detection.live_sources import LiveSource, check_name
from wsvad_jax.evaluation.event_rules import OLD_NAMES, RELATIVE_RULES, EventRules
from wsvad_jax.extraction.live_video import kind_of
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError, raise_if_unreadable
from wsvad_jax.utils.json_shapes import PrintableText, Shape, check_shape

ADVICE = "docs/detection.md shows such a file"


class _CameraShape(Shape, extra="forbid"):
    name: PrintableText | None = None
    source: PrintableText
    calibration: PrintableText | None = None
    rules: dict[str, Any] | None = None


class _CamerasShape(Shape, extra="forbid"):
    cameras: Annotated[list[_CameraShape], Field(min_length=1)]


def read_cameras(path: str) -> list[LiveSource]:
    """Reads the sources of a file.

    Args:
      path: YAML, or JSON if its name ends with .json.

    Raises:
      InputError: no such file, another content, a source that doesn't exist, or a
        calibration that isn't one of live sources.
    """
    file = pathlib.Path(path)
    if not path.strip() or file.is_dir():
        found = "is a folder" if path.strip() else "found no name"
        raise InputError(f"--cameras {path}: {found}; expected a YAML or JSON file")
    value = files.read_json(file) if file.suffix == ".json" else _read_yaml(file)
    if isinstance(value, list):
        value = {"cameras": value}
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: expected the key cameras with a list, found {value!r:.60}; {ADVICE}"
        )
    known = check_shape(_CamerasShape, value, path, ADVICE)
    return [
        _source(camera, file.parent, f"{path}: cameras[{k}]")
        for k, camera in enumerate(known.cameras)
    ]


def _source(camera: _CameraShape, folder: pathlib.Path, where: str) -> LiveSource:
    """Returns a camera of the file; `where` names its place for messages."""
    if camera.name is not None:
        check_name(camera.name, f"{where}.name")
        where = f"{where} ({camera.name})"
    if not camera.source.strip():
        raise InputError(
            f"{where}.source is empty; expected a camera's device, an address, or a file"
        )
    if camera.calibration is not None and camera.rules is not None:
        raise InputError(
            f"{where}: found calibration and rules; a calibration holds for its own "
            "rules, so leave one of them out"
        )

    # Errors of other files say which camera names them.
    try:
        source = camera.source
        if source != "-" and "://" not in source:
            source = str(folder / source)
        kind_of(source)
        calibration = None
        if camera.calibration is not None:
            calibration = read_calibration(folder / camera.calibration)
            calibration.check_way("live")
        rules = None if camera.rules is None else _rules(camera.rules)
    except InputError as e:
        raise InputError(f"{where}: {e}") from None
    return LiveSource(source, camera.name or "", rules, calibration)


def _rules(values: dict[str, Any]) -> EventRules:
    former = [old for old, new in OLD_NAMES.items() if new in RELATIVE_RULES]
    relative = [name for name in values if name in (*RELATIVE_RULES, *former)]
    if relative:
        raise InputError(
            f"rules.{relative[0]} is relative to a video's usual level, which isn't known "
            "yet in a live source; use high and low"
        )
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"rules.{name} is {value!r}; expected a number")
    return EventRules.from_options(values, prefix="rules.")


def _read_yaml(path: pathlib.Path) -> Any:
    """Reads a YAML file.

    Raises:
      InputError: the file is missing or unreadable, is not YAML, or has a duplicate key.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses duplicate keys, of which YAML's own reader takes the last."""

        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise InputError(f"the key {key!r} is there twice; keep one")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(files.read_text(path), Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as e:
        raise_if_unreadable(path, e)
        raise
    except InputError as e:
        raise InputError(f"{path}: {e}; {ADVICE}") from None
    except (ValueError, RecursionError, TypeError, yaml.YAMLError) as e:
        mark = getattr(e, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = getattr(e, "problem", None) or str(e)
        raise InputError(
            f"{path}{place}: is not YAML ({' '.join(reason.split())}); {ADVICE}"
        ) from None
