"""CLIP-TSA: Joo et al., ICIP 2023, https://arxiv.org/abs/2212.05136.

  python -m wsvad_jax.train --config configs/clip_tsa.py                the demo dataset
  python -m wsvad_jax.train --config configs/clip_tsa.py:ucf            UCF-Crime
  python -m wsvad_jax.train --config configs/clip_tsa.py:xd             XD-Violence
  python -m wsvad_jax.train --config configs/clip_tsa.py:shanghaitech   ShanghaiTech
  python -m wsvad_jax.train --config configs/clip_tsa.py:FOLDER    a prepared dataset

Published: UCF-Crime AUC 87.58; XD-Violence AP 82.19 (`ap_trapezoid`); ShanghaiTech AUC
98.32.

Protocol `paper` selects weights on the test set, as the release does. Protocol `clean`
(the default) selects on held-out training videos and uses the test set once. On small
datasets, `clean` holds no video out and keeps the last weights.

Where paper and release differ, the recipe follows the release. Smoothness crosses the
borders between the videos of a batch (`loss.smooth_across_videos`). The magnitude term
pairs normal video i with abnormal video i (`loss.pair_videos`). Unlike the release,
scoring uses noise of a fixed key (`model.test_noise`), so its scores are repeatable.
"""

from ml_collections import ConfigDict


def get_config(dataset: str = "demo") -> ConfigDict:
    """Returns the recipe of a dataset: ucf, xd, shanghaitech, demo or any other."""
    values = DATASETS.get(dataset, OTHER)

    config = ConfigDict()
    config.model_name = "clip_tsa"
    config.seed = 0
    config.seeds = (0, 1, 2)  # default of --seeds
    config.protocol = "clean"  # or paper
    config.checkpoint_every_steps = 200  # None: each epoch

    config.model = ConfigDict()
    config.model.kappa = values["kappa"]  # κ: fraction of snippets that attention keeps
    config.model.samples = 100  # noise draws
    config.model.sigma = 0.05  # deviation of the noise
    config.model.max_selected = 1000  # snippets, at test time
    config.model.top_magnitudes = 3  # snippets that give the video score
    config.model.dropout = 0.7
    config.model.attention = True
    config.model.test_noise = False
    config.model.dtype = "float32"  # or bfloat16; auto: by device

    config.loss = ConfigDict()
    config.loss.magnitude = 1e-4
    config.loss.smooth = 8e-4
    config.loss.sparse = 8e-3
    config.loss.smooth_across_videos = True
    config.loss.pair_videos = True

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
    config.eval.mode = "whole"  # each video at its own length
    config.eval.batch_size = 32
    config.eval.normal_truth = "whole_video"  # one event of class normal, for mAP

    config.paper = ConfigDict(values["paper"])
    config.clean = ConfigDict(values["clean"])
    return config


def paper(*, steps: int, metric: str) -> dict:
    """Returns the released training, which selects weights on the test set."""
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
    """Returns the released training, with weights selected on held-out videos."""
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
    """Returns our short training on few videos, which keeps the last weights."""
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
# The demo dataset, or a folder of few videos.
OTHER = {
    "kappa": 0.95,
    "paper": paper(steps=4000, metric="auc"),
    "clean": clean_small(),
}
DATASETS = {"ucf": UCF, "xd": XD, "shanghaitech": SHANGHAITECH}
