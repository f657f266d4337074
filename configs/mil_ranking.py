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
    config = ConfigDict()
    config.model_name = "mil_ranking"
    config.seed = 0
    config.seeds = (0, 1, 2)  # of --seeds without a list
    config.protocol = "clean"
    config.checkpoint_every = 1000  # steps; 0 is each epoch

    config.model = ConfigDict()
    config.model.segments = 32
    config.model.dropout = 0.6
    config.model.relu_hidden = True
    config.model.dtype = "float32"

    config.loss = ConfigDict()
    config.loss.hinge = 1.0
    config.loss.smooth = 8e-5
    config.loss.sparse = 8e-5
    config.loss.pairing = "pairs"

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
    config.eval.mode = "whole"  # every video's segments over its own length
    config.eval.batch_size = 32
    config.eval.normal_truth = "whole_video"

    add_protocols(config)
    adapt(config, dataset)
    return config


def add_protocols(config: ConfigDict) -> None:
    """Adds `paper`, as published, and `clean`."""
    config.paper = ConfigDict()
    config.paper.epochs = 0
    config.paper.steps = 20_000
    config.paper.batch_size = 60
    config.paper.select = "best"
    config.paper.metric = "auc"
    config.paper.eval_every = 500  # steps
    config.paper.reload_best = False
    config.paper.optim = ConfigDict()
    # The penalty 0.001 Σ w² on the kernels is a weight decay of 0.002.
    config.paper.optim.default = ConfigDict(
        {
            "name": "adagrad_l2",
            "lr": 1e-3,
            "weight_decay": 0.002,
            "schedule": "constant",
        }
    )

    config.clean = config.paper.copy_and_resolve_references()
    config.clean.metric = "video_auc"
    config.clean.held_out = 0.1  # of the training videos
    config.clean.later_of_equals = True


def adapt(config: ConfigDict, dataset: str) -> None:
    """Sets what differs by dataset."""
    if dataset == "xd":
        config.paper.metric = "ap"
    elif dataset != "ucf":  # the demo world or a folder of your own: fewer videos
        config.paper.batch_size = config.clean.batch_size = 32
        steps = 1000 if dataset == "demo" else 2000
        config.paper.steps = config.clean.steps = steps
        config.paper.eval_every = config.clean.eval_every = 100
        config.clean.optim.default.lr = 0.01
        config.clean.select = "last"
        config.clean.held_out = 0.0
