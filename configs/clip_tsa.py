"""CLIP-TSA: Joo et al., ICIP 2023, https://arxiv.org/abs/2212.05136.

  python -m wsvad_jax.train --config configs/clip_tsa.py                the demo world
  python -m wsvad_jax.train --config configs/clip_tsa.py:ucf            UCF-Crime
  python -m wsvad_jax.train --config configs/clip_tsa.py:xd             XD-Violence
  python -m wsvad_jax.train --config configs/clip_tsa.py:shanghaitech   ShanghaiTech
  python -m wsvad_jax.train --config configs/clip_tsa.py:FOLDER    a prepared dataset

Published: UCF-Crime AUC 87.58; XD-Violence AP 82.19 (`ap_trapezoid`); ShanghaiTech AUC
98.32.

Protocol `paper` picks the weights on the test set, as the release does; `clean` (the
default) picks by held-out training videos (on small datasets it takes the last weights
and holds none out) and touches the test set once. Where paper
and release differ, the release is followed: smoothness crosses the borders between the
videos of a batch (`loss.smooth_across_videos`) and normal video i meets abnormal video
i in the magnitude term (`loss.pair_videos`). Unlike the release, scoring draws no noise
(`model.test_noise`), so that a test gives the same scores twice.
"""

from ml_collections import ConfigDict


def get_config(dataset: str = "demo") -> ConfigDict:
    """Returns the recipe of a dataset: ucf, xd, shanghaitech, demo or any other."""
    special = DATASETS.get(dataset, OTHER)

    config = ConfigDict()
    config.model_name = "clip_tsa"
    config.seed = 0
    config.seeds = (0, 1, 2)  # of --seeds without a list
    config.protocol = "clean"  # or paper
    config.checkpoint_every_steps = 200  # None: each epoch

    config.model = ConfigDict()
    config.model.kappa = special["kappa"]  # fraction of snippets that attention keeps
    config.model.samples = 100
    config.model.sigma = 0.05
    config.model.max_selected = 1000
    config.model.top_magnitudes = 3
    config.model.dropout = 0.7
    config.model.attention = True
    config.model.test_noise = False
    config.model.dtype = "float32"

    config.loss = ConfigDict()
    config.loss.magnitude = 1e-4
    config.loss.smooth = 8e-4
    config.loss.sparse = 8e-3
    config.loss.smooth_across_videos = True
    config.loss.pair_videos = True

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
    config.eval.mode = "whole"  # each video at its own length
    config.eval.batch_size = 32
    config.eval.normal_truth = "whole_video"  # mAP's truth of class normal

    config.paper = ConfigDict(special["paper"])
    config.clean = ConfigDict(special["clean"])
    return config


def paper(*, steps: int, metric: str) -> dict:
    """Returns the released training: the test set picks the weights."""
    return {
        "epochs": None,
        "steps": steps,
        "batch_size": 32,
        "select": "best",
        "metric": metric,
        "eval_every_steps": 50,
        "reload_best": False,
        "prefer_later_on_tie": False,
        "remove_position_bias": False,
        "optim": optimiser(),
    }


def clean(*, steps: int) -> dict:
    """Returns the same training, with held-out training videos to pick the weights."""
    return {
        "epochs": None,
        "steps": steps,
        "batch_size": 32,
        "held_out": 0.1,  # fraction of the training videos
        "select": "best",
        "metric": "video_auc",
        "eval_every_steps": 50,
        "reload_best": False,
        "prefer_later_on_tie": True,
        "remove_position_bias": False,
        "optim": optimiser(),
    }


def clean_small() -> dict:
    """Returns our training on few videos: short, no video held out, last weights."""
    return {
        "epochs": None,
        "steps": 400,
        "batch_size": 32,
        "held_out": 0.0,
        "select": "last",
        "metric": "video_auc",
        "eval_every_steps": 50,
        "reload_best": False,
        "prefer_later_on_tie": True,
        "remove_position_bias": False,
        "optim": optimiser(),
    }


def optimiser() -> dict:
    """Returns Adam with an L2 penalty, as released."""
    adam = {"name": "adam_l2", "lr": 1e-3, "weight_decay": 0.005}
    return {"default": {**adam, "schedule": "constant"}}


UCF = {
    "kappa": 0.95,
    "paper": paper(steps=4000, metric="auc"),
    "clean": clean(steps=4000),
}
XD = {
    "kappa": 0.9,
    "paper": paper(steps=4000, metric="ap_trapezoid"),
    "clean": clean(steps=4000),
}
SHANGHAITECH = {
    "kappa": 0.01,
    "paper": paper(steps=35_000, metric="auc"),
    "clean": clean(steps=35_000),
}
# The demo world, or a folder of few videos.
OTHER = {
    "kappa": 0.95,
    "paper": paper(steps=4000, metric="auc"),
    "clean": clean_small(),
}
DATASETS = {"ucf": UCF, "xd": XD, "shanghaitech": SHANGHAITECH}
