"""The recipe that suits a dataset, and the command that trains it as printed."""

import os
import pathlib
from typing import TYPE_CHECKING

from wsvad_jax.experiment import config
from wsvad_jax.utils import flags

if TYPE_CHECKING:
    from wsvad_jax.datasets.validation.report import ValidationReport

FIRST = "dsanet"
# Of the public sets, those that DSANet's paper has no recipe for.
OTHERS = {"shanghaitech": "clip_tsa"}


def recipe_for(name: str, width: int, clip: str = "") -> tuple[str, str]:
    """Returns a recipe that trains on such features, and why if it isn't DSANet's.

    Args:
      name: name of the dataset in recipes, "" for a custom folder.
      width: number of values per snippet.
      clip: hub name or folder of the card's CLIP model, "" where it names none.
    """
    # A published recipe comes first.
    if name in OTHERS:
        return OTHERS[name], f"no other recipe is published for {name}"

    # Attention heads split the features evenly.
    model = config.plain_recipe(FIRST, name or config.OWN).model
    for key in ("decoder_heads", "visual_heads"):
        if width % model[key]:
            return "mil_ranking", (
                f"the {model[key]} heads of DSANet don't divide features {width} wide"
            )

    # A card may name a CLIP folder of another machine.
    if os.path.isabs(clip) and not os.path.isdir(clip):
        return "mil_ranking", (
            f"DSANet takes its text tower from {clip}, which is not there "
            "(--config.clip names another)"
        )
    return FIRST, ""


def train_command(
    path: pathlib.Path, data_dir: str | os.PathLike | None
) -> tuple[str, str]:
    """Returns the command that trains on a prepared dataset, and a remark or "".

    Args:
      path: its version folder.
      data_dir: folder of prepared datasets that holds it; None is the cache's.
    """
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.datasets import registry

    dataset = open_dataset(path)
    name = registry.recipe_name_of_card(dataset.card)
    recipe, why = recipe_for(name, dataset.width, dataset.card.clip)

    # Built-in sets go by name, which says what is trained; other folders by path.
    words = ["--config", f"{recipe}:{dataset.card.name if name else path}"]
    if name and data_dir is not None:
        words += ["--data_dir", str(pathlib.Path(data_dir).expanduser().absolute())]
    return flags.command("train", *words), why


def advise(found: "ValidationReport") -> None:
    """Adds what training on a custom folder will do otherwise than its recipe."""
    # A balanced batch takes half of its samples from each side.
    known = [i for i in found.of_split("train") if i.label]
    normal = [i for i in known if i.label == (0,)]
    abnormal = [i for i in known if i.label != (0,)]
    batch = config.plain_recipe(FIRST, config.OWN).clean.batch_size
    fewest = min(sum(i.crops for i in side) for side in (normal, abnormal))

    if 0 < 2 * fewest < batch:
        found.add_remark(
            "training",
            f"the recipe's batches have {batch} samples, half of them normal; with "
            f"{len(normal)} normal and {len(abnormal)} abnormal training videos, training "
            f"uses batches of {2 * fewest}",
        )

    # The printed command may have to name another model.
    recipe, why = recipe_for("", found.width, found.card.clip if found.card else "")
    if why:
        found.add_remark(
            "training", f"{why}, so prepare prints the command of {recipe}"
        )
