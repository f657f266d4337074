"""What the results of a benchmark say of their data, code, machine and intervals."""

from typing import TYPE_CHECKING, Any

from wsvad_jax.results import seeds as seed_summary

if TYPE_CHECKING:
    from wsvad_jax.experiment.build import Experiment


def result_facts(
    experiment: "Experiment", recipe: str, resamples: int, **methods: str
) -> dict[str, Any]:
    """Returns data, text tower, recipe changes, code, machine and bootstrap.

    Args:
      experiment: opened recipe of the runs.
      recipe: dataset whose plain recipe the changes are counted from.
      resamples: bootstrap resamples.
      **methods: sentences on how each kind of interval is made.
    """
    from wsvad_jax.evaluation.results import device, versions
    from wsvad_jax.training import provenance

    return {
        "content": experiment.dataset.content,
        "text_tower": (experiment.text_tower_id or {}).get("hash"),
        "clip_note": experiment.clip_note,
        "overrides": provenance.overrides(experiment.config, recipe),
        "git": provenance.git_state(),
        "versions": versions(),
        "device": device(),
        "bootstrap": {
            "resamples": resamples,
            "level": seed_summary.LEVEL,
            "seed": seed_summary.SEED,
            **methods,
        },
    }
