"""The files that are pushed: the model alone, without anything of this machine."""

import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

from wsvad_jax.results.runs import without_folders
from wsvad_jax.sharing import hub_card, shared_clip
from wsvad_jax.sharing.shared_clip import SharedClip
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import digest_mismatch, read_json, write_json, write_text
from wsvad_jax.weights import model_folder
from wsvad_jax.weights.tensor_file import TENSOR_FILE, write_tensors
from wsvad_jax.weights.trained_model import read_card

CARD, META, RESULTS = "README.md", "meta.json", "results.json"
ORBAX, CLIP = "params", "clip"  # folders
# A path within a sentence, such as /home/me/videos; group 1 is its last component.
PATH_IN_TEXT = re.compile(
    r"(?<![\w.:/@-])(?:~|/[\w.@+-]+)(?:/[\w.@+-]+)*/([\w.@+-]+)/?"
)
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")


@dataclasses.dataclass(frozen=True)
class Contents:
    """Files in a temporary folder, ready to be pushed."""

    folder: pathlib.Path
    notes: tuple[str, ...]  # what whoever pushes should know
    clip: SharedClip

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by its path in the repository."""
        return {
            path.relative_to(self.folder).as_posix(): path.stat().st_size
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


def write_contents(
    directory: pathlib.Path,
    target: pathlib.Path,
    name: str,
    *,
    with_clip: bool = False,
    licence: str | None = None,
) -> Contents:
    """Writes the files to push into an empty folder.

    Args:
      directory: workdir of training, or model folder.
      target: empty folder.
      name: USER/NAME, which the card shows.
      with_clip: whether a CLIP model in a local folder may be pushed along.
      licence: identifier of the weights' licence, as the hub lists them.

    Raises:
      InputError: the directory holds no model or a damaged one, or the model needs what
        only this machine has.
    """
    folder = model_folder.find_model_folder(directory)
    params, batch_stats, loaded = model_folder.load_params(folder)
    read_card(loaded, folder)  # raises for a model without classes
    clip = shared_clip.shared_clip(folder, loaded, with_clip)

    # The arrays were compared with their digest, so both files are the same model.
    write_tensors(target / TENSOR_FILE, {"params": params, "batch_stats": batch_stats})
    meta = read_json(folder / META)
    stored = meta.pop("files", None)
    if stored and (folder / ORBAX).is_dir():
        _copy_orbax(folder / ORBAX, target / ORBAX, stored)
        meta["files"] = stored
    if clip.copy is not None:
        shared_clip.write_clip(clip.copy, target / CLIP)

    meta = shareable_meta(meta, clip)
    write_json(target / META, meta)
    results, notes = _results(folder, meta)
    if results is not None:
        write_json(target / RESULTS, results)
    body = without_paths(hub_card.read_body(_workdir(folder)))
    card = hub_card.hub_card(name, meta, results, body, licence, _sentence(clip))
    write_text(target / CARD, card)
    _check_texts(target, directory)
    return Contents(target, tuple(filter(None, (*notes, clip.note))), clip)


def shareable_meta(meta: Mapping[str, Any], clip: SharedClip) -> dict[str, Any]:
    """Returns meta.json without paths of this machine, with CLIP names of others."""
    # Prompts stay as they are, whatever they begin with: scores depend on them.
    classes = meta["card"]["classes"]
    shared = _clean({k: v for k, v in meta.items() if k != "files"})
    shared["card"] |= {"classes": classes, "clip": clip.image}
    if shared.get("tower"):
        shared["tower"]["clip"] = clip.text or shared["tower"]["clip"]

    # Older folders have no tower: the name is the recipe's.
    elif clip.text and shared["config"].get("clip") != "auto":
        shared["config"]["clip"] = clip.text
    if "files" in meta:
        shared["files"] = meta["files"]
    return shared


def without_paths(text: str) -> str:
    """Returns a text whose absolute paths are reduced to their last component."""
    return PATH_IN_TEXT.sub(r"\1", text.replace("file://", ""))


def _clean(value: Any) -> Any:
    """Reduces paths in a JSON value, whole texts and those within a sentence."""
    value = without_folders(value)
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v) for v in value]
    return without_paths(value) if isinstance(value, str) else value


def _check_texts(target: pathlib.Path, directory: pathlib.Path) -> None:
    """Raises InputError if a text shows a folder of this machine, or a token."""
    home = os.path.expanduser("~")
    private = {str(directory.absolute().parent), home} - {"/", "~"}
    for name in (CARD, META, RESULTS):
        path = target / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        shown = next(
            (p for p in sorted(private) if re.search(rf"{re.escape(p)}\b", text)), ""
        )
        if shown or TOKEN.search(text):
            raise InputError(
                f"{name}: would show {shown or 'a token of the hub'}, which is private; "
                f"remove it from MODEL_CARD.md, {META} or {RESULTS} of {directory}"
            )


def _workdir(folder: pathlib.Path) -> pathlib.Path:
    """Returns the workdir of a model folder, which may be the folder itself."""
    parent = folder.absolute().parent
    return parent if folder.absolute().name == "model" else folder


def _copy_orbax(
    source: pathlib.Path, target: pathlib.Path, stored: Mapping[str, Any]
) -> None:
    """Copies the files that training wrote, and no others that are there."""
    if damage := digest_mismatch(source, stored):
        raise InputError(
            f"{source.parent}: the model is damaged ({damage}); {model_folder.AGAIN}"
        )
    for name in stored:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, path)


def _results(
    folder: pathlib.Path, meta: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, list[str]]:
    """Returns results.json of the model, or None with a note on why it is left out."""
    path = _workdir(folder) / RESULTS
    if not path.is_file():
        return None, [f"no {RESULTS} there, so the card has no metrics"]

    # A workdir may hold the results of another evaluation.
    results = read_json(path)
    wanted = {"model": meta["model"], "step": meta.get("step")}
    found = {k: results.get(k) for k in wanted} if isinstance(results, dict) else {}
    if found != wanted:
        return None, [f"{path} is not of this model ({found}), so it is left out"]
    return _clean(results), []


def _sentence(clip: SharedClip) -> str:
    """Returns the card's sentence on the CLIP model."""
    if clip.copy is not None:
        return "The CLIP model is in `clip/`."
    if names := clip.hub_names:
        return f"The CLIP model is {' and '.join(names)} of the hub."
    if shared_clip.PACKAGED in (clip.text, clip.image):
        return "The CLIP model comes with wsvad_jax."
    return ""
