"""MIL ranking: Sultani, Chen, Shah, CVPR 2018, https://arxiv.org/abs/1801.04264.

  python -m wsvad_jax.train --config configs/mil_ranking.py          the demo world
  python -m wsvad_jax.train --config configs/mil_ranking.py:ucf      UCF-Crime
  python -m wsvad_jax.train --config configs/mil_ranking.py:xd       XD-Violence
  python -m wsvad_jax.train --config configs/mil_ranking.py:FOLDER   a prepared dataset

Published: UCF-Crime AUC 75.41 (C3D features). With CLIP ViT-B/16 features, as the
authors of VadCLIP ran it: UCF-Crime AUC 84.14, Ano-AUC 63.29, mAP AVG 3.24; XD-Violence
AP 75.18, mAP AVG 11.65.

Protocol `paper` picks the weights on the test set; `clean` (the default) picks by
held-out training videos (on small datasets it takes the last weights and holds none
out) and touches the test set once. The defaults follow the paper;
its released code differs, by --config.model.relu_hidden=False (a linear 32-unit layer),
--config.loss.pairing=all (the hinge over all pairs of a batch) and
--config.PROTOCOL.optim.default.lr=0.01.
"""

from ml_collections import ConfigDict


def get_config(dataset: str = "demo") -> ConfigDict:
    """Returns the recipe of a dataset: ucf, xd, shanghaitech, demo or any other."""
    special = DATASETS.get(dataset, OTHER)

    config = ConfigDict()
    config.model_name = "mil_ranking"
    config.seed = 0
    config.seeds = (0, 1, 2)  # of --seeds without a list
    config.protocol = "clean"  # or paper
    config.checkpoint_every_steps = 1000  # None: each epoch

    config.model = ConfigDict()
    config.model.segments = 32
    config.model.dropout = 0.6
    config.model.relu_hidden = True
    config.model.dtype = "float32"

    config.loss = ConfigDict()
    config.loss.hinge = 1.0
    config.loss.smooth = 8e-5
    config.loss.sparse = 8e-5
    config.loss.pairing = "pairs"  # or all: the hinge over all pairs of a batch

    config.data = ConfigDict()
    config.data.name = dataset
    config.data.length = 32  # each training video's snippets are averaged into 32
    config.data.samples = "videos"  # with all their crops
    config.data.batch_sampling = "balanced"  # normal videos, then as many abnormal ones
    config.data.placement = "host"  # or device: it holds the packed training split
    config.data.microbatches = 1  # gradient accumulation: more need less memory

    # Number of devices along each axis; data None: all that are left. Both axes split
    # the batch; fsdp splits parameters and optimiser state as well.
    config.mesh = ConfigDict({"data": None, "fsdp": 1})

    config.eval = ConfigDict()
    config.eval.mode = "whole"  # each video's segments over its own length
    config.eval.batch_size = 32
    config.eval.normal_truth = "whole_video"  # mAP's truth of class normal

    config.paper = ConfigDict(special["paper"])
    config.clean = ConfigDict(special["clean"])
    return config


def paper(*, metric: str) -> dict:
    """Returns the published training: the test set picks the weights."""
    return {
        "epochs": None,
        "steps": 20_000,
        "batch_size": 60,
        "select": "best",
        "metric": metric,
        "eval_every_steps": 500,
        "reload_best": False,
        "prefer_later_on_tie": False,
        "remove_position_bias": False,
        "optim": optimiser(lr=1e-3),
    }


def clean() -> dict:
    """Returns the same training, with held-out training videos to pick the weights."""
    return {
        "epochs": None,
        "steps": 20_000,
        "batch_size": 60,
        "held_out": 0.1,  # fraction of the training videos
        "select": "best",
        "metric": "video_auc",
        "eval_every_steps": 500,
        "reload_best": False,
        "prefer_later_on_tie": True,
        "remove_position_bias": False,
        "optim": optimiser(lr=1e-3),
    }


def clean_small(*, steps: int) -> dict:
    """Returns our training on few videos: short, no video held out, last weights."""
    return {
        "epochs": None,
        "steps": steps,
        "batch_size": 32,
        "held_out": 0.0,
        "select": "last",
        "metric": "video_auc",
        "eval_every_steps": 100,
        "reload_best": False,
        "prefer_later_on_tie": True,
        "remove_position_bias": False,
        "optim": optimiser(lr=0.01),
    }


def optimiser(*, lr: float) -> dict:
    """Returns Adagrad with an L2 penalty, as published."""
    # The penalty 0.001 Σ w² on the kernels is a weight decay of 0.002.
    adagrad = {"name": "adagrad_l2", "lr": lr, "weight_decay": 0.002}
    return {"default": {**adagrad, "schedule": "constant"}}


UCF = {"paper": paper(metric="auc"), "clean": clean()}
XD = {"paper": paper(metric="ap"), "clean": clean()}
# ShanghaiTech was published later: the values of UCF-Crime.
SHANGHAITECH = UCF
DEMO = {"paper": paper(metric="auc"), "clean": clean_small(steps=1000)}
# A folder of few videos.
OTHER = {"paper": paper(metric="auc"), "clean": clean_small(steps=2000)}
DATASETS = {"ucf": UCF, "xd": XD, "shanghaitech": SHANGHAITECH, "demo": DEMO}
