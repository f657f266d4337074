"""Writes all that detection leaves: the page, events.json, events.csv, pictures."""

import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError


def write(
    output: pathlib.Path,
    made: Sequence[DetectionResult],
    title: str,
    settings: Mapping,
    errors: list[InputError],
) -> list[pathlib.Path]:
    """Writes the page, events.json, events.csv and pictures; returns the page first.

    Names that files can't have are `errors`: their videos have no picture.
    """
    from wsvad_jax.detection import plots, result
    from wsvad_jax.detection.report import page

    result.write_events_json(output / "events.json", made, settings)
    result.write_events_csv(output / "events.csv", made)
    for one in made:
        try:
            plots.picture(output / "pictures" / f"{one.name}.png", one)
        except OSError as e:
            if e.errno not in files.ABOUT_ONE_NAME:
                raise
            errors.append(InputError(f"no picture of {one.name}: {e.strerror}"))
    return page.write_report(
        output / "report.html", made, title=title, settings=settings
    )
