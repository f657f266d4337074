"""Pushes a trained model to the Hugging Face hub, in one commit."""

import dataclasses
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any

from wsvad_jax.sharing.contents import CLIP, META, ORBAX, Contents, write_contents
from wsvad_jax.utils import hub_access
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.hub_access import HubName

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# What a repository may hold besides before its first model.
EMPTY = {".gitattributes", "README.md", "LICENSE", ".gitignore"}


@dataclasses.dataclass(frozen=True)
class PushOptions:
    """How a model is pushed."""

    private: bool | None = None  # None: private if new, else as it is
    with_clip: bool = False
    licence: str | None = None
    dry_run: bool = False


@dataclasses.dataclass(frozen=True)
class Repository:
    """A model repository of the hub, as it is before the push."""

    exists: bool
    private: bool
    commit: str | None = None
    files: tuple[str, ...] = ()


def push_model(
    directory: pathlib.Path, name: HubName, options: PushOptions
) -> dict[str, Any]:
    """Pushes a model, and returns what was pushed where.

    Args:
      directory: workdir of training, or model folder.
      name: USER/NAME of the hub; its revision is a branch.
      options: how it is pushed.

    Raises:
      InputError: no model there, a model that others couldn't load, or the hub refuses.
    """
    with tempfile.TemporaryDirectory(prefix="wsvad-push-") as folder:
        contents = write_contents(
            directory,
            pathlib.Path(folder),
            name.repo,
            with_clip=options.with_clip,
            licence=options.licence,
        )
        _print_contents(contents, name)
        result = {
            "repository": name.repo,
            "revision": name.revision or "main",
            "files": contents.sizes,
            "bytes": sum(contents.sizes.values()),
            "notes": list(contents.notes),
        }
        if options.dry_run:
            print("nothing was pushed (--dry_run)")
            return {**result, "pushed": False}
        return {**result, "pushed": True, **_push(contents, name, options)}


def _print_contents(contents: Contents, name: HubName) -> None:
    """Prints the files with their sizes, and the notes."""
    sizes = contents.sizes
    width = max(map(len, sizes))
    for path, size in sizes.items():
        print(f"  {path.ljust(width)}  {_size(size):>9}")
    print(f"{len(sizes)} files, {_size(sum(sizes.values()))}, for {name}")
    for note in contents.notes:
        print(f"note: {note}")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} B"


def _push(contents: Contents, name: HubName, options: PushOptions) -> dict[str, Any]:
    """Pushes the files; returns address, commit and whether it is private."""
    from huggingface_hub import HfApi

    api = HfApi()
    before = _look_up(api, name, options)
    _check_clip(api, contents)
    private = before.private if before.exists else options.private is not False

    # Creating is the first change; a refused push leaves at most an empty repository.
    stage = "create it"
    try:
        if not before.exists:
            api.create_repo(name.repo, private=private, exist_ok=False)
        if name.revision and before.commit is None:
            api.create_branch(name.repo, branch=name.revision, exist_ok=True)
        stage = "push to it"
        commit = api.create_commit(
            name.repo,
            _operations(contents, before.files),
            commit_message="wsvad push",
            revision=name.revision or None,
            parent_commit=before.commit,
        )
    except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
        left = "" if before.exists or stage == "create it" else ", an empty repository"
        raise InputError(
            f"{name}: could not {stage}: {hub_access.reason(e, name)}; nothing was "
            f"changed there{left and f' beyond creating it{left}'}"
        ) from None

    url = f"{hub_access.endpoint()}/{name.repo}"
    state = "private" if private else "public"
    print(f"pushed to {url} ({state}), commit {commit.oid}")
    print(f'others load it with Detector("{name}") or --checkpoint {name}')
    return {"url": url, "commit": commit.oid, "private": private}


def _look_up(api: "HfApi", name: HubName, options: PushOptions) -> Repository:
    """Asks the hub what is there.

    Raises:
      InputError: no answer, a token that is refused, another model, or a visibility that
        contradicts the flags.
    """

    def ask(revision: str | None) -> Any:
        timeout = hub_access.HUB_TIMEOUT
        return hub_access.ask(
            lambda: api.model_info(name.repo, revision=revision, timeout=timeout)
        )

    info, at_revision = None, None
    try:
        info = ask(None)
        at_revision = ask(name.revision) if name.revision else info
    except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
        kinds = {kind.__name__ for kind in type(e).__mro__}
        new = kinds & {"RepositoryNotFoundError", "RevisionNotFoundError"}
        if not new or "GatedRepoError" in kinds:
            raise InputError(f"{name}: {hub_access.reason(e, name)}") from None
    if info is None:
        return Repository(False, True)

    # A careless name must not replace somebody's other model.
    files = tuple(file.rfilename for file in info.siblings or ())
    if META not in files and set(files) - EMPTY:
        raise InputError(
            f"{name.repo}: holds another kind of model ({', '.join(sorted(files)[:4])}); "
            "choose another name"
        )
    if options.private is not None and options.private != bool(info.private):
        state, flag = (
            ("private", "--public") if info.private else ("public", "--private")
        )
        raise InputError(
            f"{name.repo}: is {state} already, which {flag} doesn't change; change it "
            f"in its settings at {hub_access.endpoint()}/{name.repo}/settings"
        )
    if at_revision is None:
        return Repository(True, bool(info.private), None, files)
    there = tuple(file.rfilename for file in at_revision.siblings or ())
    return Repository(True, bool(info.private), at_revision.sha, there)


def _check_clip(api: "HfApi", contents: Contents) -> None:
    """Raises InputError if the hub has no CLIP model of the name that others need."""
    for clip in contents.clip.hub_names:
        name = HubName(clip)
        try:
            info = hub_access.ask(
                lambda name=name: api.model_info(
                    name.repo, timeout=hub_access.HUB_TIMEOUT
                )
            )
        except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
            raise InputError(
                f"{clip}: the CLIP model that the model needs is not found on the hub: "
                f"{hub_access.reason(e, name)}"
            ) from None
        if info.private:
            print(f"note: the CLIP model {clip} is private, so others can't load it")


def _operations(contents: Contents, before: tuple[str, ...]) -> list[Any]:
    """Returns the commit's operations: all files, and the removal of an older model's."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    sizes = contents.sizes
    add = [
        CommitOperationAdd(path_in_repo=path, path_or_fileobj=contents.folder / path)
        for path in sizes
    ]

    # Only files that an earlier push can have written.
    ours = (f"{ORBAX}/", f"{CLIP}/", "results.json")
    stale = [path for path in before if path.startswith(ours) and path not in sizes]
    return [*add, *(CommitOperationDelete(path_in_repo=path) for path in stale)]
