"""Finds the folder of a checkpoint: a local path, or a model of the Hugging Face hub.

A local path that exists comes first. Otherwise USER/NAME, or USER/NAME@REVISION, is
downloaded into the hub's cache (HF_HOME), and read from there where the hub gives no
answer or HF_HUB_OFFLINE is set.
"""

import dataclasses
import os
import pathlib
import sys
from typing import Any

from wsvad_jax.utils import hub_access
from wsvad_jax.utils.errors import InputError, full_disk_path
from wsvad_jax.utils.hub_access import HubName
from wsvad_jax.weights import model_folder
from wsvad_jax.weights.tensor_file import TENSOR_FILE

META = "meta.json"
# Models lie at the root; a workdir that was uploaded as it is has them one level below.
PLACES = ("", "model/")
EXPECTED = "expected one that `wsvad push` shared, with meta.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a model was found."""

    folder: pathlib.Path  # model folder
    source: str  # the folder, or USER/NAME@COMMIT of the hub
    advice: str = model_folder.AGAIN  # what to do if it is damaged


def find_checkpoint(checkpoint: str | os.PathLike) -> Checkpoint:
    """Returns the model folder of a path or of a hub name; prints where the hub's is.

    Args:
      checkpoint: model folder, workdir of training, or USER/NAME[@REVISION].

    Raises:
      InputError: there is neither such a folder nor such a model, or the hub's is none
        of this package.
    """
    text, path = os.fspath(checkpoint), pathlib.Path(checkpoint)
    name = hub_access.parse_hub_name(text)

    if os.path.lexists(path):
        folder = model_folder.find_model_folder(path)
        if name is not None:
            _note_ambiguity(name, folder)
        return Checkpoint(folder, str(folder))

    if name is None:
        _raise_missing(text)
        return Checkpoint(path, text)  # read_meta names what is missing

    folder, how = _download(name)
    source = f"{name.repo}@{folder.commit}"
    print(f"note: the model is {source} of the Hugging Face hub{how}", file=sys.stderr)
    return Checkpoint(
        folder.path,
        source,
        f"delete {hub_access.cached_folder(name)} and load it again; if it stays so, "
        "whoever shared it must push it again",
    )


def load_checkpoint(
    checkpoint: str | os.PathLike,
) -> tuple[pathlib.Path, Any, Any, dict[str, Any]]:
    """Returns (folder, params, batch_stats, meta) of a path or of a hub name.

    The key `checkpoint` of the meta names a model of the hub with its commit.

    Raises:
      InputError: see `find_checkpoint` and `model_folder.load_params`.
    """
    found = find_checkpoint(checkpoint)
    params, batch_stats, meta = model_folder.load_params(found.folder, found.advice)
    if found.source != str(found.folder):
        meta["checkpoint"] = found.source
    return found.folder, params, batch_stats, meta


def _raise_missing(text: str) -> None:
    """Raises InputError for a missing path that has the form of a hub name."""
    if hub_access.looks_remote(text):
        raise InputError(
            f"{text}: no such folder, and no name of the Hugging Face hub, which is "
            f"{hub_access.NAME_RULE}"
        )
    if text.startswith(("http://", "https://")):
        raise InputError(
            f"{text}: expected a folder or a name of the Hugging Face hub, which is the "
            "end of the address, as USER/NAME"
        )


def _note_ambiguity(name: HubName, folder: pathlib.Path) -> None:
    """Says which model is read where both a folder and a download have a name."""
    if name.revision or not hub_access.cached_folder(name).is_dir():
        return
    print(
        f"note: {name.repo} is the folder here ({folder.absolute()}), not the hub's "
        f"model of that name; {name.repo}@main is the hub's",
        file=sys.stderr,
    )


@dataclasses.dataclass(frozen=True)
class _Snapshot:
    """A model folder in the hub's cache."""

    path: pathlib.Path
    commit: str


def _download(name: HubName) -> tuple[_Snapshot, str]:
    """Returns a model's folder in the hub's cache, and words on how it was read.

    Raises:
      InputError: the hub refuses, gives no answer and there is no copy, or the model is
        none of this package.
    """
    from huggingface_hub import HfApi, snapshot_download

    revision = name.revision or None
    try:
        info = hub_access.ask(
            lambda: HfApi().model_info(
                name.repo, revision=revision, timeout=hub_access.HUB_TIMEOUT
            )
        )
    except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
        if not hub_access.is_no_answer(e):
            raise _not_found(name, e) from None
        return _cached(name, e)

    # A model of another kind is refused before its weights are downloaded.
    files = [file.rfilename for file in info.siblings or ()]
    place = next((place for place in PLACES if place + META in files), None)
    if place is None:
        listed = ", ".join(sorted(files)[:6]) or "nothing"
        raise InputError(
            f"{name}: this model of the hub is none of wsvad_jax (it has {listed}); "
            f"{EXPECTED}"
        )

    weights = TENSOR_FILE if place + TENSOR_FILE in files else "params/**"
    try:
        path = snapshot_download(
            name.repo,
            revision=revision,
            allow_patterns=[place + META, place + weights, f"{place}clip/*"],
            ignore_patterns=["*.bin", "*.pt", "*.pth", "*.pkl"],
        )
    except Exception as e:
        # A full disk is the program's to report, with its own sentence.
        if full_disk_path(e) is not None:
            raise
        raise InputError(
            f"{name}: the download stopped ({hub_access.reason(e, name)}); run the same "
            "command again, which continues it"
        ) from None
    return _Snapshot(pathlib.Path(path, place), pathlib.Path(path).name), ""


def _cached(name: HubName, error: Exception) -> tuple[_Snapshot, str]:
    """Returns the copy in the cache, since the hub gives no answer.

    Raises:
      InputError: there is no copy, or only a part of one.
    """
    from huggingface_hub import snapshot_download

    why = hub_access.reason(error, name)
    try:
        found = snapshot_download(
            name.repo,
            revision=name.revision or None,
            allow_patterns=[place + META for place in PLACES],
            local_files_only=True,
        )
    except Exception:  # noqa: BLE001 - kinds differ between hub versions
        raise _not_found(name, error) from None

    path = pathlib.Path(found)
    folder = model_folder.find_model_folder(path)
    weights = (folder / TENSOR_FILE, folder / "params")
    if not (folder / META).is_file() or not any(x.exists() for x in weights):
        raise InputError(
            f"{name}: only a part of it is in the cache ({path}), and the rest can't be "
            f"downloaded: {why}"
        )
    return _Snapshot(folder, path.name), f", from the cache ({why})"


def _not_found(name: HubName, error: Exception) -> InputError:
    cached = (
        " and there is no copy in the cache" if hub_access.is_no_answer(error) else ""
    )
    return InputError(
        f"{name}: no such folder here, and not found on the Hugging Face hub: "
        f"{hub_access.reason(error, name)}{',' + cached if cached else ''}"
    )
