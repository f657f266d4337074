"""Lists the papers' ablations: each row is a set of changes to the model's recipe.

DSANet (https://arxiv.org/abs/2511.10334), Table 5: the rows between its baseline
VadCLIP and the full model. VadCLIP (https://arxiv.org/abs/2308.11681): without temporal
modules, with a single branch, or with plain prompts.
"""

# The full model is the recipe itself. DSANet's baseline is the recipe of VadCLIP.
ABLATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "dsanet": {
        "adapter": ("model.sgnm=False", "model.dcsa=False"),
        "adapter_sgnm": ("model.dcsa=False",),
        "adapter_dcsa": ("model.sgnm=False",),
    },
    "vadclip": {
        "no_local": ("model.use_local=False",),
        "no_graph": ("model.use_graph=False",),
        "c_branch": ("model.align=False",),
        "a_branch": ("model.classify=False",),
        "plain_prompt": ("model.learn_prompt=False",),
        "no_visual_prompt": ("model.visual_prompt=False",),
    },
}


def rows(model: str) -> dict[str, tuple[str, ...]]:
    """Returns a model's rows as {name: flags}; '' is the unchanged recipe."""
    changes = ABLATIONS.get(model, {}).items()
    return {"": (), **{k: tuple(f"--config.{c}" for c in v) for k, v in changes}}
