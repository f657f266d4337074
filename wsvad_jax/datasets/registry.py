"""Registry of datasets: finds a prepared one by the name or path in a recipe."""

import os
import pathlib
from typing import TYPE_CHECKING

from wsvad_jax.data import cards
from wsvad_jax.data.cards import Card
from wsvad_jax.data.dataset import INDEX, METADATA, VERSION, Entry
from wsvad_jax.utils import files, flags
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.datasets.demo.worlds import World

DEMO = "demo"
PUBLIC_CARDS = (cards.UCF, cards.XD, cards.SHANGHAITECH, cards.MSAD, cards.UBNORMAL)
PUBLIC_NAMES = tuple(card.name for card in PUBLIC_CARDS)


def demo_world(name: str) -> "World | None":
    """Returns the demo world of a dataset's name, None for any other name."""
    # Other names need no drawing library.
    if name.partition("_")[0] != DEMO:
        return None
    from wsvad_jax.datasets.demo.worlds import WORLDS

    return WORLDS.get(name)


def is_built_in(name: str) -> bool:
    """Whether a name is a demo world's or a public dataset's."""
    return name in PUBLIC_NAMES or demo_world(name) is not None


def prepared_data_dir(data_dir: str | os.PathLike | None) -> pathlib.Path:
    """Returns the folder of prepared datasets; None is the one in the cache."""
    if data_dir is None:
        return files.cache_dir() / "data"
    return pathlib.Path(data_dir).expanduser()


def public_name(card: Card) -> str:
    """Returns the name of the public dataset of a card, "" for any other."""
    for name, known in zip(PUBLIC_NAMES, PUBLIC_CARDS, strict=True):
        if card.name == name and card.class_names == known.class_names:
            return name
    return ""


def is_prepared(name: str, data_dir: str | os.PathLike | None = None) -> bool:
    """Whether a dataset of that name or path is prepared."""
    return find_prepared(name, data_dir) is not None


def recipe_name(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """Returns the name that recipes know a dataset by: its card's, or `name` itself.

    Recipes have values for the demo and the public datasets, whatever their path. All
    demo worlds have those of the demo. Only the cards of these have such names:
    `prepare` refuses them for other folders.
    """
    if demo_world(name) is not None:
        return DEMO
    card = None if name in PUBLIC_NAMES else find_card(name, data_dir)
    return (recipe_name_of_card(card) if card else "") or name


def frame_rate(entry: Entry, card: Card) -> float | None:
    """Returns a video's frames per second, None if unknown.

    They are those of the video itself, where features state them, else the card's.
    """
    if rate := entry.fps or card.fps:
        return rate

    # Demos that older versions prepared have no rate in their card.
    if card.name == DEMO:
        from wsvad_jax.datasets.demo.figures import FPS

        return float(FPS)
    return None


def find_card(name: str, data_dir: str | os.PathLike | None = None) -> Card | None:
    """Returns the card of a public or a prepared dataset, None where there is none."""
    if name in PUBLIC_NAMES:
        return PUBLIC_CARDS[PUBLIC_NAMES.index(name)]
    path = find_prepared(name, data_dir)
    try:
        metadata = files.read_json(path / METADATA) if path else {}
        return Card.from_json(metadata["card"], str(path))
    except (InputError, KeyError, TypeError):
        return None  # opening the dataset reports the error


def recipe_name_of_card(card: Card) -> str:
    """Returns the name by which recipes know a card's dataset, "" for any other."""
    return DEMO if demo_world(card.name) is not None else public_name(card)


def resolve(name: str, data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the version folder of a prepared dataset.

    Args:
      name: 'demo' or another demo world (built if it is missing), 'ucf', 'xd',
        'shanghaitech', another dataset prepared into `data_dir`, or the path of a
        prepared dataset.
      data_dir: folder of prepared datasets; None is the one in the cache.

    Raises:
      InputError: no such dataset, or it is not prepared yet.
    """
    base = prepared_data_dir(data_dir)
    # Only demo worlds are built on demand; others need files that the user has.
    if (world := demo_world(name)) is not None:
        from wsvad_jax.datasets.demo import dataset

        return dataset.prepare_demo(base, world=world)
    if (version := find_prepared(name, data_dir)) is not None:
        return version

    # The error names the command that prepares the dataset.
    path = pathlib.Path(name).expanduser()
    if name in PUBLIC_NAMES:
        words = [name, "--features", "DIR", "--annotations", "DIR"]
        made = flags.command("prepare", *words, "--data_dir", base.absolute())
        raise InputError(
            f"{base / name}: dataset {name} is not prepared there; make it with {made}"
        )
    if path.is_dir():
        options = () if data_dir is None else ("--data_dir", base.absolute())
        made = flags.command("prepare", path.absolute(), *options)
        raise InputError(
            f"{name} is a folder, but not a prepared dataset; first run {made}, then the "
            "command that it prints"
        )

    prepared = (p.parent.parent.name for p in base.glob(f"*/{VERSION}/{INDEX}"))
    known = ", ".join(dict.fromkeys((DEMO, *PUBLIC_NAMES, *sorted(prepared))))
    raise InputError(
        f"no dataset {name!r}; expected {known}, or the path of a prepared dataset"
    )


def find_prepared(
    name: str, data_dir: str | os.PathLike | None = None
) -> pathlib.Path | None:
    """Returns the version folder of a dataset, None if it is not prepared."""
    base, path = prepared_data_dir(data_dir), pathlib.Path(name).expanduser()
    bare = path.name == name
    # A public name means the public dataset, even where a folder is called the same.
    folders = [base / name] if is_built_in(name) else [path] + [base / name] * bare
    for folder in folders:
        for version in (folder, folder / VERSION):
            if (version / INDEX).is_file():
                return version
    return None
