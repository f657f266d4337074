"""The ablations of the papers, each row as changes of the model's recipe.

DSANet's Table 5 (https://arxiv.org/abs/2511.10334): VadCLIP, its baseline, and the full
model are rows without a change. VadCLIP's (https://arxiv.org/abs/2308.11681): without
the temporal modules, with one branch alone, with plain prompts.
"""

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
    """Returns a model's rows as {name: flags}; '' is the recipe as it is."""
    found = ABLATIONS.get(model, {}).items()
    return {"": (), **{k: tuple(f"--config.{c}" for c in v) for k, v in found}}
