"""Tables of `benchmark open_vocabulary`, from the files that it wrote."""

import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.datasets.open_vocabulary_splits import SPLITS, PublishedGroups
from wsvad_jax.metrics.base_novel import GROUPS
from wsvad_jax.results.base_novel_table import ROWS
from wsvad_jax.utils.files import read_json
from wsvad_jax.utils.json_shapes import (
    Count,
    Number,
    PrintableText,
    Shape,
    check_shape,
)
from wsvad_jax.utils.text import (
    aligned,
    change_in_points,
    count,
    markdown_table,
    percent,
)

NOTE = (
    "In %: mean ± sample standard deviation over the seeds. Differences are in percentage "
    "points, with their 95 % interval over test videos and seeds. **Bold**: the interval "
    "leaves out 0."
)
CHOSEN = "chosen"  # the split of base classes that no paper has
TRAININGS = {"base": "base classes", "all": "all classes", "none": "nothing"}
# Metrics of the table of words; the frame metrics are those of all videos.
WORD_COLUMNS = {
    "auc/all": "frame AUC",
    "auc_align/all": "frame AUC, alignment branch",
    "ap/all": "AP",
    **{f"top1/{g}": f"named rightly, {g}" for g in GROUPS},
    **{f"map/{g}": f"mAP AVG, {g}" for g in GROUPS},
}


class GroupDifference(Shape):
    """Difference of a metric to a reference."""

    mean: Number | None
    interval: list[Number] | None


class GroupMetric(Shape):
    """A metric over the seeds."""

    mean: Number | None
    std: Number | None
    difference: GroupDifference | None = None


class WordResults(Shape):
    """A training, scored with some words; metrics are named METRIC/GROUP."""

    shuffles: list[list[PrintableText]]
    metrics: dict[PrintableText, GroupMetric]


class TrainingResults(Shape):
    """A training, by words at test time."""

    words: dict[PrintableText, WordResults]


class OpenVocabularyResults(Shape):
    """A file of `benchmark open_vocabulary`."""

    model: PrintableText
    dataset: PrintableText
    protocol: PrintableText
    seeds: list[int]
    base: list[PrintableText]
    novel: list[PrintableText]
    split: PrintableText
    abnormal_test_videos: dict[PrintableText, Count]
    clip_note: PrintableText | None = None
    trainings: dict[PrintableText, TrainingResults]

    @property
    def first(self) -> TrainingResults:
        return next(iter(self.trainings.values()))


def check_output(folder: pathlib.Path) -> None:
    """Checks, before anything is trained, that results can be written to a folder.

    Raises:
      InputError: it holds files of something else, which would be replaced or break the
        tables.
    """
    for path in sorted(folder.glob("*/*.json")):
        advice = "pass another --output folder, or move this file away"
        check_shape(OpenVocabularyResults, read_json(path), path, advice)


def markdown(results: Sequence[OpenVocabularyResults]) -> str:
    """Returns the tables of all results as Markdown."""
    sections = [NOTE]
    for result in results:
        note = f"\n\nNote: {result.clip_note}." if result.clip_note else ""
        sections.append(f"{_title(result, '**')}{note}")
        rows = [*_group_rows(result), *_published_rows(result)]
        sections.append(markdown_table(rows, left=2))
        sections.append(markdown_table(_word_rows(result)))
    return "\n\n".join(sections) + "\n"


def plain(result: OpenVocabularyResults) -> str:
    """Returns the tables of one result for a terminal."""
    rows = [*_group_rows(result, bold=False), *_published_rows(result)]
    lines = [f"{_title(result)} In %.", *aligned(rows, left=(0, 1)), ""]
    return "\n".join([*lines, *aligned(_word_rows(result, bold=False))])


def _title(result: OpenVocabularyResults, mark: str = "") -> str:
    videos = result.abnormal_test_videos
    trained = "none" not in result.trainings
    seeds = f", {count(len(result.seeds), 'seed')}" if trained else ""
    return (
        f"{mark}{result.model} on {result.dataset}{mark}, protocol {result.protocol}"
        f"{seeds}. Base classes: {', '.join(result.base)} "
        f"({count(videos['base'], 'test video')}). Novel classes: "
        f"{', '.join(result.novel)} ({count(videos['novel'], 'test video')})."
    )


def _group_rows(result: OpenVocabularyResults, *, bold: bool = True) -> list[list[str]]:
    """Rows of the own words: metrics over all, base and novel classes."""
    rows = [["metric", "trained on", *GROUPS]]
    for key, label in ROWS.items():
        for training, found in result.trainings.items():
            metrics = found.words["own"].metrics
            if f"{key}/all" not in metrics:
                continue
            of_groups = [metrics[f"{key}/{group}"] for group in GROUPS]
            cells = [percent(m.mean, m.std, undefined="-") for m in of_groups]
            rows.append([label, TRAININGS.get(training, training), *cells])

        # The cost of leaving the novel classes out of training.
        own = result.first.words["own"].metrics
        of_groups = [own.get(f"{key}/{group}") for group in GROUPS]
        if any(m and m.difference for m in of_groups):
            cells = [_difference(m, bold) for m in of_groups]
            rows.append([label, "base − all classes", *cells])
    return rows


def _published_rows(result: OpenVocabularyResults) -> list[list[str]]:
    """Rows of the papers' numbers, for the datasets and base classes that they report."""
    published: Sequence[PublishedGroups] = ()
    # With other base classes, the groups would be of other videos.
    if result.dataset in SPLITS and result.split != CHOSEN:
        published = SPLITS[result.dataset].published
    return [
        [ROWS[key], f"{each.model}, published ({each.source})", *map(_percent, values)]
        for key in ROWS
        for each in published
        if (values := each.values.get(key))
    ]


def _percent(value: float) -> str:
    return f"{value:.2f}"


def _word_rows(result: OpenVocabularyResults, *, bold: bool = True) -> list[list[str]]:
    """Rows of the words at test time: the own words, then differences to them."""
    words: Mapping[str, WordResults] = result.first.words
    own = words["own"].metrics
    names = [name for name in WORD_COLUMNS if name in own]

    rows = [["words at test time", *(WORD_COLUMNS[name] for name in names)]]
    for kind, found in words.items():
        label = kind.replace("_", " ")
        if kind == "own":
            cells = [percent(own[n].mean, own[n].std, undefined="-") for n in names]
        else:
            cells = [_difference(found.metrics[n], bold) for n in names]
        if found.shuffles:
            label += f", mean of {len(found.shuffles)}"
        rows.append([label, *cells])
    return rows


def _difference(metric: GroupMetric | None, bold: bool) -> str:
    found = metric.difference if metric else None
    if found is None:
        return "-"
    return change_in_points(found.mean, found.interval, bold=bold)
