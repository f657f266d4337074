"""The README.md of a shared model: its card, with the metadata that the hub reads."""

import math
import pathlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wsvad_jax.results.results_table import NAMES
from wsvad_jax.utils.errors import InputError, one_line
from wsvad_jax.utils.files import read_text
from wsvad_jax.utils.text import percent

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

TASK = "video-classification"
LIBRARY = "wsvad_jax"
TAGS = ("video-anomaly-detection", "weakly-supervised", "jax", "flax")
OTHER_LICENCE = {
    "license": "other",
    "license_name": "see-card",
    "license_link": "README.md",
}
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
# Names of hub datasets, with or without their owner.
DATASET = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
USE = """## Use

```python
from wsvad_jax import Detector

result = Detector("$name")("video.mp4")
result.events
```

or `wsvad detect VIDEO --checkpoint $name --output DIR`. `$name@REVISION` is a branch, a
tag or a commit. The weights are in `model.safetensors`, and the same arrays in `params/`
as orbax writes them. $clip

"""


def hub_card(
    name: str,
    meta: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    body: str,
    licence: str | None,
    clip: str,
) -> str:
    """Returns the text of README.md.

    Args:
      name: USER/NAME.
      meta: content of the shared meta.json.
      results: content of results.json, if the model has been scored.
      body: MODEL_CARD.md of the training, with or without metadata; "" if there is none.
      licence: identifier of the weights' licence, as the hub lists them.
      clip: sentence on the CLIP model.

    Raises:
      InputError: the card's own metadata is not what the hub reads.
    """
    from huggingface_hub import ModelCard

    text = _with_use(body or _short_body(meta, results), name, clip)
    data = _metadata(name, meta, results, licence)
    try:
        # What somebody wrote into the card takes precedence.
        if text.startswith("---"):
            own = ModelCard(text, ignore_metadata_errors=False)
            text = own.text
            for key, value in own.data.to_dict().items():
                if not (licence and key.startswith("license")):
                    data[key] = value
        card = f"---\n{data.to_yaml()}\n---\n\n{text.lstrip()}"
        ModelCard(card, ignore_metadata_errors=False)
    except Exception as e:  # noqa: BLE001 yaml and the hub's client raise many kinds
        raise InputError(
            f"MODEL_CARD.md: the hub can't read the metadata between its --- lines "
            f"({one_line(e)}); correct or remove it"
        ) from None
    return card


def check_licence(licence: str | None) -> None:
    """Raises InputError if a licence has no form of the hub's identifiers."""
    if licence is not None and not LICENCE.fullmatch(licence):
        raise InputError(
            f"--license is {licence!r}; expected an identifier of the hub, such as "
            "apache-2.0, mit, cc-by-4.0 or other"
        )


def _metadata(
    name: str,
    meta: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    licence: str | None,
) -> "ModelCardData":
    from huggingface_hub import ModelCardData

    dataset = str((meta.get("card") or {}).get("name") or "unknown")
    licences: dict[str, Any] = {"license": licence} if licence else OTHER_LICENCE
    rows = _eval_results(results, dataset)
    return ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=[*TAGS, str(meta["model"])],
        datasets=[dataset] if DATASET.fullmatch(dataset) else None,
        metrics=[row.metric_type for row in rows] or None,
        model_name=name.rpartition("/")[2],
        eval_results=rows or None,
        **licences,
    )


def _eval_results(results: Mapping[str, Any] | None, dataset: str) -> list[Any]:
    """Returns the metrics of results.json as the hub's, in %."""
    from huggingface_hub import EvalResult

    rows = []
    for key, title in NAMES.items():
        value = (results or {}).get(key)
        if not isinstance(value, float) or not math.isfinite(value):
            continue
        rows.append(
            EvalResult(
                task_type=TASK,
                task_name="Weakly supervised video anomaly detection",
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split="test",
                metric_type=key,
                metric_name=f"{title}, %",
                metric_value=round(100 * value, 2),
                dataset_args={"protocol": str((results or {}).get("protocol"))},
            )
        )
    return rows


def _with_use(body: str, name: str, clip: str) -> str:
    """Replaces the section Use, which names the folder of the training."""
    use = USE.replace("$name", name).replace("$clip", clip).rstrip() + "\n\n"
    front, mark, rest = body.partition("## Use\n")
    if not mark:
        return f"{body.rstrip()}\n\n{use}"
    _, heading, after = rest.partition("\n## ")
    return f"{front}{use}{heading.lstrip()}{after}"


def _short_body(meta: Mapping[str, Any], results: Mapping[str, Any] | None) -> str:
    """Returns a card for a model without a MODEL_CARD.md, such as a converted one."""
    card = meta.get("card") or {}
    classes = ", ".join(str(c.get("name")) for c in card.get("classes", ()))
    rows = [
        f"| {title} | {percent(value)} |"
        for key, title in NAMES.items()
        if isinstance(value := (results or {}).get(key), float)
    ]
    table = (
        ["", "## Metrics", "", "| metric | % |", "|---|---:|", *rows] if rows else []
    )
    about = (
        "A model for weakly supervised video anomaly detection. It scores how unusual "
        "each snippet of a video is."
    )
    lines = [
        f"# {meta['model']} on {card.get('name', 'an unknown dataset')}",
        "",
        about,
        "",
        f"Classes: {classes}. Selection: {meta.get('selection') or 'unknown'}.",
        *table,
        "",
    ]
    return "\n".join(lines)


def read_body(workdir: pathlib.Path) -> str:
    """Returns the card that training left in its workdir, "" if there is none.

    Raises:
      InputError: the file is no text.
    """
    path = workdir / "MODEL_CARD.md"
    if not path.is_file():
        return ""
    try:
        return read_text(path)
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: expected text in UTF-8; correct or remove it"
        ) from None
