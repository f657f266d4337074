"""MIL ranking: Sultani, Chen, Shah, CVPR 2018, https://arxiv.org/abs/1801.04264.

  python -m wsvad_jax.train --config configs/mil_ranking.py          the demo dataset
  python -m wsvad_jax.train --config configs/mil_ranking.py:ucf      UCF-Crime
  python -m wsvad_jax.train --config configs/mil_ranking.py:xd       XD-Violence
  python -m wsvad_jax.train --config configs/mil_ranking.py:FOLDER   a prepared dataset

Published: UCF-Crime AUC 75.41 (C3D features). With CLIP ViT-B/16 features, as the
authors of VadCLIP ran it: UCF-Crime AUC 84.14, Ano-AUC 63.29, mAP AVG 3.24; XD-Violence
AP 75.18, mAP AVG 11.65.

Protocol `paper` selects weights on the test set. Protocol `clean` (the default) selects
on held-out training videos and uses the test set once. On small datasets, `clean` holds
no video out, keeps the last weights and has learning rate 0.01.

Otherwise the defaults follow the paper. These switches follow the released code:
  --config.model.relu_hidden=False              linear 32-unit layer
  --config.loss.pairing=all                     hinge over all pairs of a batch
  --config.PROTOCOL.optim.default.lr=0.01       learning rate
"""

from ml_collections import ConfigDict


def get_config(dataset: str = "demo") -> ConfigDict:
    """Returns the recipe of a dataset: ucf, xd, shanghaitech, demo or any other."""
    values = DATASETS.get(dataset, OTHER)

    config = ConfigDict()
    config.model_name = "mil_ranking"
    config.seed = 0
    config.seeds = (0, 1, 2)  # default of --seeds
    config.protocol = "clean"  # or paper
    config.checkpoint_every_steps = 1000  # None: each epoch

    config.model = ConfigDict()
    config.model.segments = 32
    config.model.dropout = 0.6
    config.model.relu_hidden = True
    config.model.dtype = "float32"  # or bfloat16; auto: by device

    config.loss = ConfigDict()
    config.loss.hinge = 1.0
    config.loss.smooth = 8e-5
    config.loss.sparse = 8e-5
    config.loss.pairing = "pairs"  # or all: hinge over all pairs of a batch

    config.data = ConfigDict()
    config.data.name = dataset
    # The anomaly classes to train on, NAME,NAME or published; "": all.
    config.data.base_classes = ""
    config.data.length = 32  # training videos are averaged to 32 snippets
    config.data.samples = "videos"  # one sample per video, with all crops
    config.data.batch_sampling = "balanced"  # half normal, half abnormal videos
    config.data.placement = "host"  # where the packed split is: host or device
    config.data.microbatches = 1  # gradient accumulation; higher values save memory

    # Number of devices along each axis; data=None takes all remaining ones. Both axes
    # split the batch; fsdp also splits parameters and optimiser state.
    config.mesh = ConfigDict({"data": None, "fsdp": 1})

    config.eval = ConfigDict()
    config.eval.mode = "whole"  # each video's segments over its own length
    config.eval.batch_size = 32
    config.eval.normal_truth = "whole_video"  # one event of class normal, for mAP

    config.paper = ConfigDict(values["paper"])
    config.clean = ConfigDict(values["clean"])
    return config


def paper(*, metric: str) -> dict:
    """Returns the published training, with weights selected on the test set."""
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
    """Returns the published training, with weights selected on held-out videos."""
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
    """Returns our short training on few videos, which keeps the last weights."""
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
# ShanghaiTech was published later, so the values are those of UCF-Crime.
SHANGHAITECH = UCF
DEMO = {"paper": paper(metric="auc"), "clean": clean_small(steps=1000)}
# A folder of few videos.
OTHER = {"paper": paper(metric="auc"), "clean": clean_small(steps=1000)}
DATASETS = {"ucf": UCF, "xd": XD, "shanghaitech": SHANGHAITECH, "demo": DEMO}
