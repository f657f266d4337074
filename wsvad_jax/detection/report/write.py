"""Writes the outputs of detection: report.html, events.json, events.csv, pictures."""

import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError


def write(
    output: pathlib.Path,
    results: Sequence[DetectionResult],
    title: str,
    settings: Mapping,
    errors: list[InputError],
) -> list[pathlib.Path]:
    """Writes all outputs; returns the paths of the page, the first to open first.

    Args:
      output: folder of the outputs.
      results: one result per video.
      title: title of the page.
      settings: name → value, stored beside the results.
      errors: list that gets an error per video whose name no picture file can have.
    """
    # Imported here, so that --help needs neither numpy nor matplotlib.
    from wsvad_jax.detection import plots, result
    from wsvad_jax.detection.report import page

    result.write_events_json(output / "events.json", results, settings)
    result.write_events_csv(output / "events.csv", results)

    # One name that the disk refuses doesn't cost the other videos their pictures.
    for each in results:
        try:
            plots.write_picture(output / "pictures" / f"{each.name}.png", each)
        except OSError as e:
            if e.errno not in files.NAME_ERRNOS:
                raise
            errors.append(InputError(f"no picture of {each.name}: {e.strerror}"))

    return page.write_report(
        output / "report.html",
        results,
        title=title,
        settings=settings,
        json_file="events.json",
    )
