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
anew (`model.test_noise`), so that a test gives the same scores twice.
"""

from ml_collections import ConfigDict


def get_config(dataset: str = "demo") -> ConfigDict:
    config = ConfigDict()
    config.model_name = "clip_tsa"
    config.seed = 0
    config.seeds = (0, 1, 2)  # of --seeds without a list
    config.protocol = "clean"
    config.checkpoint_every = 200  # steps; 0 is each epoch

    config.model = ConfigDict()
    config.model.kappa = 0.95  # share of the snippets that the attention keeps
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
    config.data.length = 32  # a training video's snippets are averaged into as many
    config.data.samples = "videos"  # with all their crops
    config.data.pairing = "halves"  # of a batch: normal, then abnormal videos
    config.data.placement = "host"  # or device: the packed split lies on it

    # Devices along each axis; 0: all that are left. Both split the batch, fsdp the
    # parameters, too.
    config.mesh = ConfigDict({"data": 0, "fsdp": 1})

    config.eval = ConfigDict()
    config.eval.mode = "whole"  # every video at its own length
    config.eval.batch_size = 32
    config.eval.normal_truth = "whole_video"

    add_protocols(config)
    adapt(config, dataset)
    return config


def add_protocols(config: ConfigDict) -> None:
    """Adds `paper`, as published, and `clean`."""
    config.paper = ConfigDict()
    config.paper.epochs = 0
    config.paper.steps = 4000
    config.paper.batch_size = 32
    config.paper.select = "best"
    config.paper.metric = "auc"
    config.paper.eval_every = 50  # steps
    config.paper.reload_best = False
    config.paper.optim = ConfigDict()
    config.paper.optim.default = ConfigDict(
        {"name": "adam_l2", "lr": 1e-3, "weight_decay": 0.005, "schedule": "constant"}
    )

    config.clean = config.paper.copy_and_resolve_references()
    config.clean.metric = "video_auc"
    config.clean.held_out = 0.1  # of the training videos
    config.clean.later_of_equals = True


def adapt(config: ConfigDict, dataset: str) -> None:
    """Sets what differs by dataset."""
    if dataset == "xd":
        config.model.kappa = 0.9
        config.paper.metric = "ap_trapezoid"
    elif dataset == "shanghaitech":
        config.model.kappa = 0.01
        config.paper.steps = config.clean.steps = 35_000
    elif dataset != "ucf":  # the demo world or a folder of your own: far fewer videos
        config.paper.steps = config.clean.steps = 400
        config.clean.select = "last"
        config.clean.held_out = 0.0
