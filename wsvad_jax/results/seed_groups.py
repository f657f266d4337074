"""Groups runs that differ by their seed alone: each group is a row of the tables."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.results.runs import Run
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import mean_and_std

# The order of rows; the floor stands first.
MODELS = ("zero_shot", "mil_ranking", "clip_tsa", "vadclip", "dsanet")
UNTRAINED = ("zero_shot",)  # models without weights: a single run, and no seeds
BENCHMARKS = ("ucf", "xd", "shanghaitech")


@dataclasses.dataclass(frozen=True)
class SeedGroup:
    """Runs of one recipe, one per seed."""

    runs: tuple[Run, ...]  # by seed
    variant: str = ""  # config keys that differ from another group's, as KEY=VALUE
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    @property
    def intervals(self) -> dict[str, Sequence[float]]:
        """Bootstrap intervals [low, high] by metric."""
        metrics = self.summary.get("metrics", {})
        return {k: m["interval"] for k, m in metrics.items() if m.get("interval")}

    @property
    def resamples(self) -> dict[str, list[float]]:
        """Means over seeds on each resample of the test videos, by metric."""
        values = self.summary.get("bootstrap", {}).get("values", {})
        return {name: list(map(float, text.split())) for name, text in values.items()}

    def mean_and_std(self, key: str) -> tuple[float | None, float | None]:
        """Returns mean and sample standard deviation of a metric, event-level or not."""
        values = ({**run.values(), **run.event_values()} for run in self.runs)
        return mean_and_std([of_run.get(key) for of_run in values])

    def steps(self) -> str:
        """Returns '1000', or '600–1000' where seeds stopped at different steps."""
        steps = sorted({s for r in self.runs if (s := r.results.get("step"))})
        return "–".join(map(str, dict.fromkeys([steps[0], steps[-1]]))) if steps else ""

    def devices(self) -> str:
        """Returns the devices of the runs, with the precision where it isn't float32."""
        found = []
        for run in self.runs:
            device, dtype = run.results.get("device"), run.results.get("dtype")
            exact = dtype in (None, "", "float32")
            found.append(str(device) if exact else f"{device}, {dtype}")
        return "; ".join(dict.fromkeys(found))


def group_by_recipe(
    runs: Sequence[Run], summaries: Sequence[Mapping[str, Any]] = ()
) -> list[SeedGroup]:
    """Returns runs that differ by seed alone as groups, in the order of the tables.

    Runs of one dataset, model and protocol may have different recipes, or data that
    shares only its name. Their groups' variants say what differs.

    Args:
      runs: finished runs.
      summaries: contents of summary.json files, each used by the group it belongs to.

    Raises:
      InputError: two runs of one recipe have the same seed.
    """
    contents: dict[str, set[str]] = {}
    for run in runs:
        contents.setdefault(run.dataset, set()).update({run.content} - {""})

    # Rows that readers compare are those of one dataset, model and choice of weights.
    rows: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for run in sorted(runs, key=_run_order):
        settings = run.settings()

        # Datasets may share a name alone; then their content tells them from each other.
        if len(contents[run.dataset]) > 1:
            settings["data"] = run.content[:8] or "unknown"
        recipe = json.dumps(settings, sort_keys=True)
        row = (run.dataset, run.model, run.weights_description)

        # Runs are in the order of their seeds, so a duplicate follows its twin.
        members = rows.setdefault(row, {}).setdefault(recipe, [])
        if members and members[-1].seed == run.seed:
            raise InputError(
                f"{members[-1].source} and {run.source} are both seed {run.seed} of "
                "one recipe; pass one of them"
            )
        members.append(run)

    return [
        SeedGroup(tuple(members), variant, _find_summary(members, summaries))
        for recipes in rows.values()
        for variant, members in zip(
            _variants(map(json.loads, recipes)), recipes.values(), strict=True
        )
    ]


def _variants(recipes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns for each recipe the keys by which the recipes differ, as KEY=VALUE."""
    recipes = list(recipes)
    differing = [
        key
        for key in sorted({k for recipe in recipes for k in recipe})
        # The dataset's content is shown even where one recipe alone is left.
        if key == "data" or any(r.get(key) != recipes[0].get(key) for r in recipes)
    ]
    return [", ".join(f"{k}={recipe.get(k)}" for k in differing) for recipe in recipes]


def _run_order(run: Run) -> tuple:
    return (*row_order(run.dataset, run.model), run.weights_description, run.seed)


def row_order(dataset: str, model: str) -> tuple:
    """Returns a sort key: custom datasets, then benchmarks; models as published."""
    rank = BENCHMARKS.index(dataset) + 1 if dataset in BENCHMARKS else 0
    return rank, dataset, MODELS.index(model) if model in MODELS else len(MODELS), model


def _find_summary(
    runs: Sequence[Run], summaries: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Returns the summary whose seeds and AUCs are those of the runs, {} if none is."""
    for summary in summaries:
        seeds, metrics = summary["seeds"], summary["metrics"]
        if sorted(seeds) != [r.seed for r in runs] or "auc" not in metrics:
            continue

        # Seeds alone don't identify runs; their results do.
        values = dict(zip(seeds, metrics["auc"]["seeds"], strict=True))
        if all(values[r.seed] == r.results["auc"] for r in runs):
            return summary
    return {}
