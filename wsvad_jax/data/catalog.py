"""Finds a prepared dataset by the name or path that a recipe gives."""

import os
import pathlib

from wsvad_jax import files
from wsvad_jax.data.dataset import INDEX, VERSION
from wsvad_jax.errors import InputError

DEMO = "demo"
PUBLIC = ("ucf", "xd", "shanghaitech")


def data_dir_of(data_dir: str | os.PathLike | None) -> pathlib.Path:
    """Returns the folder that holds prepared datasets; None is the cache's."""
    if data_dir is None:
        return files.cache_dir() / "data"
    return pathlib.Path(data_dir).expanduser()


def resolve(name: str, data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the version folder of a prepared dataset.

    Args:
      name: 'demo' (made where it is missing), 'ucf', 'xd', 'shanghaitech', another
        dataset prepared into `data_dir`, or the path of a prepared dataset.
      data_dir: where datasets are prepared; None is the cache's folder.

    Raises:
      InputError: there is no such dataset, or it is not prepared yet.
    """
    base = data_dir_of(data_dir)
    if name == DEMO:
        from wsvad_jax.data import demo

        return demo.prepare(base)
    if (found := find(name, data_dir)) is not None:
        return found
    path = pathlib.Path(name).expanduser()
    if name in PUBLIC:
        raise InputError(
            f"{base / name}: dataset {name} is not prepared there; make it with python "
            f"-m wsvad_jax.prepare {name} --features DIR --annotations DIR "
            f"--data_dir {base}"
        )
    if path.is_dir():
        raise InputError(
            f"{name} is a folder, but not a prepared dataset; first run python -m "
            f"wsvad_jax.prepare {name}, then give the path that it prints"
        )
    prepared = (p.parent.parent.name for p in base.glob(f"*/{VERSION}/{INDEX}"))
    known = ", ".join(dict.fromkeys((DEMO, *PUBLIC, *sorted(prepared))))
    raise InputError(
        f"no dataset {name!r}; expected {known}, or the path of a prepared dataset"
    )


def find(name: str, data_dir: str | os.PathLike | None = None) -> pathlib.Path | None:
    """Returns what `resolve` does where it is prepared already, else None."""
    base, path = data_dir_of(data_dir), pathlib.Path(name).expanduser()
    bare = path.name == name
    # A public name means the public dataset, even where a folder is called the same.
    own = name in (DEMO, *PUBLIC)
    places = [base / name] if own else [path] + [base / name] * bare
    for place in places:
        for found in (place, place / VERSION):
            if (found / INDEX).is_file():
                return found
    return None
