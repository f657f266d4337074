"""A quick look at a dataset: `train --quick`, a short training as a protocol of its own.

The protocol `quick` is the recipe's training of small folders (`clean` of any dataset
that the recipe doesn't know), with a part of its steps, small batches and short windows.
The weights are the last ones, so no video is held out and none selects them.
"""

from typing import TYPE_CHECKING

from wsvad_jax.experiment.old_keys import QUICK
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

PART = 2  # half of the steps of a small folder's training, see docs/own_data.md
WARMUP = 4  # at most a fourth of the steps
STEPS = 100  # of a recipe whose training is counted in epochs
MAX_BATCH = 16
MAX_WINDOW = 64  # snippets


def apply(config: "ConfigDict", small: "ConfigDict") -> None:
    """Gives an unlocked recipe the protocol `quick`, and selects it.

    Args:
      config: recipe of the dataset to train on.
      small: the same recipe for a small folder.

    Raises:
      InputError: the recipe has no training that could be shortened.
    """
    plan = small.get("clean")
    if not hasattr(plan, "items") or "optim" not in plan:
        raise InputError(
            "--quick: the recipe has no section clean to shorten; train without --quick"
        )

    steps = max(plan.steps // PART, 1) if plan.get("steps") else STEPS
    config.quick = plan.copy_and_resolve_references()
    config.quick.update(
        epochs=None,
        steps=steps,
        batch_size=min(plan.batch_size, MAX_BATCH),
        held_out=0.0,
        select="last",
        eval_every_steps=steps,
        reload_best=False,
    )
    _shorten_warmup(config.quick.optim, steps)

    # Long windows make the steps of the attention models slow.
    config.protocol, config.checkpoint_every_steps = QUICK, steps
    if (config.data.length or 0) > MAX_WINDOW:
        window = config.model.get("attn_window", 1)
        config.data.length = max(MAX_WINDOW // window, 1) * window


def _shorten_warmup(optim: "ConfigDict", steps: int) -> None:
    for group in optim.values():
        if group.get("warmup"):
            group.warmup = min(group.warmup, max(steps // WARMUP, 1))


def remark(config: "ConfigDict") -> str:
    """Returns a sentence for results and output, "" for another protocol."""
    if config.protocol != QUICK:
        return ""
    return (
        f"this is a quick look (--quick) of {config.quick.steps} steps and one seed; "
        "train without --quick for numbers to compare"
    )
