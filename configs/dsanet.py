"""DSANet: Yin et al., AAAI 2026, https://arxiv.org/abs/2511.10334.

  python -m wsvad_jax.train --config configs/dsanet.py            the demo dataset
  python -m wsvad_jax.train --config configs/dsanet.py:ucf        UCF-Crime
  python -m wsvad_jax.train --config configs/dsanet.py:xd         XD-Violence
  python -m wsvad_jax.train --config configs/dsanet.py:FOLDER     a prepared dataset

Published: UCF-Crime AUC 89.44, mAP AVG 13.01; XD-Violence AP 86.95, mAP AVG 28.87.
An independent rerun on the released features reached AP 85.53 on XD-Violence.

Protocol `paper` is the released training: it selects weights on the test set, and each
epoch starts from the best weights. Protocol `clean` (the default) selects on held-out
training videos and uses the test set once. On small datasets, `clean` has our own
schedule, holds no video out and keeps the last weights.

Where paper and release differ, the recipe follows the release. DCSA pools with
exp(10 σ) − 1, where the paper has a softmax. SG-NM's schedule counts the batches of both
loaders on UCF-Crime, so training ends half-way through the cosine decay.

Ablation of the paper's Table 5, as switches of the full model (`loss.align` counts as 1
without SG-NM):
  VadCLIP baseline       configs/vadclip.py
  + adapter              --config.model.sgnm=False --config.model.dcsa=False
  + adapter + SG-NM      --config.model.dcsa=False
  + adapter + DCSA       --config.model.sgnm=False
Beyond the paper, --config.loss.cross_pseudo=1 adds the cross pseudo-labels of CPL-VAD.
"""

from ml_collections import ConfigDict

VIT_B16 = "openai/clip-vit-base-patch16"  # CLIP model of the released features


def get_config(dataset: str = "demo") -> ConfigDict:
    """Returns the recipe of a dataset: ucf, xd, shanghaitech, demo or any other."""
    values = DATASETS.get(dataset, OTHER)

    config = ConfigDict()
    config.model_name = "dsanet"
    config.seed = 0
    config.seeds = (0, 1, 2)  # default of --seeds
    config.protocol = "clean"  # or paper
    # Steps between checkpoints; None: each epoch.
    config.checkpoint_every_steps = values["checkpoint_every_steps"]

    # Hub name or folder of the CLIP snapshot whose text tower encodes the class names.
    # auto: the snapshot that the dataset's card names, or random weights.
    config.clip = values["clip"]

    config.model = ConfigDict(values["model"])
    config.model.visual_heads = 1
    config.model.use_graph = values["use_graph"]
    config.model.prototypes = 16
    config.model.normality_ratio = 0.8
    config.model.decoder_heads = 8
    config.model.adapter = True  # ablation switches: adapter, dcsa, sgnm
    config.model.dcsa = True
    config.model.sgnm = True
    config.model.classifier_init_scale = values["classifier_init_scale"]
    # Switches that take a snippet's place in the window out of its score. The release
    # attends to padding, learns positions and doesn't normalise its distance graph.
    config.model.mask_padding = values["mask_padding"]
    config.model.positions = values["positions"]
    config.model.distance_graph = values["distance_graph"]  # or row_normalised
    config.model.dtype = "float32"  # or bfloat16; auto: by device
    config.model.remat = False  # True: less memory, slower backward pass

    config.loss = ConfigDict()
    config.loss.mil = 1.0
    config.loss.align = values["align"]
    config.loss.text = 1.0
    config.loss.event = 1.0
    config.loss.background = 1.0
    config.loss.consistency = 1.0
    config.loss.gather = 1.0
    # Above 0, each branch labels snippets for the other one.
    config.loss.cross_pseudo = 0.0
    config.loss.update(values["cross_pseudo"])

    config.data = ConfigDict()
    config.data.name = dataset
    # The anomaly classes to train on, NAME,NAME or published; "": all.
    config.data.base_classes = ""
    config.data.length = values["length"]  # snippets; None: the longest video's
    config.data.samples = "crops"  # one sample per crop
    config.data.batch_sampling = values["batch_sampling"]
    config.data.placement = "host"  # where the packed split is: host or device
    # Gradient accumulation; higher values save memory. auto: what fits a CPU's largest
    # cache, 1 on accelerators.
    config.data.microbatches = "auto"

    # Number of devices along each axis; data=None takes all remaining ones. Both axes
    # split the batch; fsdp also splits parameters and optimiser state.
    config.mesh = ConfigDict({"data": None, "fsdp": 1})

    config.eval = ConfigDict()
    config.eval.mode = "windows"  # windows of data.length snippets, the card's crop
    config.eval.batch_size = 32
    config.eval.normal_truth = values["normal_truth"]  # how mAP treats normal videos

    config.paper = ConfigDict(values["paper"])
    config.clean = ConfigDict(values["clean"])
    return config


def paper(
    *, batch_size: int, lr: float, metric: str, eval_every_steps: int | None
) -> dict:
    """Returns the released training, which selects weights on the test set."""
    return {
        "epochs": 10,
        "steps": None,
        "batch_size": batch_size,
        "select": "best",
        "metric": metric,
        "eval_every_steps": eval_every_steps,  # None: each epoch
        "reload_best": True,  # each epoch starts from the best weights
        "prefer_later_on_tie": False,
        "remove_position_bias": False,
        "optim": released_optimisers(lr),
    }


def clean(*, batch_size: int, lr: float) -> dict:
    """Returns the released training, with weights selected on held-out videos."""
    return {
        "epochs": 10,
        "steps": None,
        "batch_size": batch_size,
        "held_out": 0.1,  # fraction of the training videos
        "select": "best",
        "metric": "video_auc",
        "eval_every_steps": None,
        "reload_best": False,
        "prefer_later_on_tie": True,
        "remove_position_bias": False,
        "optim": released_optimisers(lr),
    }


def clean_small(
    *, steps: int, eval_every_steps: int | None, warmup: int, correct: bool
) -> dict:
    """Returns our short training on few videos, which keeps the last weights."""
    # Without a warm-up, many scores saturate in the first steps.
    schedule = {"lr": 5e-4, "schedule": "warmup_cosine", "final": 0.1}
    schedule["warmup"] = warmup
    return {
        "epochs": None,
        "steps": steps,
        "batch_size": 32,
        "held_out": 0.0,
        "select": "last",
        "metric": "video_auc",
        "eval_every_steps": eval_every_steps,
        "reload_best": False,
        "prefer_later_on_tie": True,
        "remove_position_bias": correct,  # see wsvad_jax.evaluation.position_bias
        "optim": {
            "default": {
                "name": "adamw",
                "weight_decay": 0.01,
                "schedule_counts_loader_batches": False,
                **schedule,
            },
            "video_anomaly_refiner": {
                "name": "stable_adamw",
                "weight_decay": 1e-4,
                "schedule_counts_loader_batches": True,
                **schedule,
            },
        },
    }


def cross_pseudo(
    *, warmup: int, votes: float, gap: int, length: int, scales: int, flat: float
) -> dict:
    """Returns the settings of wsvad_jax.models.cross_pseudo, with its prefix."""
    settings = {"warmup": warmup, "votes": votes, "calm": 0.2, "gap": gap}
    settings |= {"length": length, "scales": scales, "flat": flat}
    return {f"cross_pseudo_{name}": value for name, value in settings.items()}


def released_optimisers(lr: float) -> dict:
    """Returns the released optimisers; SG-NM (`video_anomaly_refiner`) has its own."""
    return {
        "default": {
            "name": "adamw",
            "lr": lr,
            "weight_decay": 0.01,
            "schedule": "cosine_epochs",
        },
        "video_anomaly_refiner": {
            "name": "stable_adamw",
            "lr": lr,
            "weight_decay": 1e-4,
            "schedule": "warmup_cosine",
            "warmup": 100,
            "final": 0.1,
            "schedule_counts_loader_batches": True,
        },
    }


UCF_MODEL = {
    "visual_layers": 2,
    "attn_window": 8,  # snippets
    "decoder_layers": 8,
    "text_adapt_until": 3,
    "text_adapt_weight": 0.1,
    "temperature": 5.0,
}
XD_MODEL = {
    "visual_layers": 1,
    "attn_window": 64,
    "decoder_layers": 8,
    "text_adapt_until": 1,
    "text_adapt_weight": 0.6,
    "temperature": 1.0,
}
UCF_PAPER = paper(batch_size=128, lr=7e-5, metric="auc", eval_every_steps=10)
XD_PAPER = paper(batch_size=96, lr=1e-5, metric="ap", eval_every_steps=None)

# CPL-VAD's released settings, for windows of 256 snippets. The warm-up, about half of
# the training, is ours.
UCF_LABELS = cross_pseudo(warmup=600, votes=0.49, gap=5, length=6, scales=5, flat=0.55)
XD_LABELS = cross_pseudo(warmup=1000, votes=0.73, gap=21, length=7, scales=5, flat=0.95)
# Those of UCF-Crime, for windows of 32 snippets.
SMALL_LABELS = cross_pseudo(warmup=50, votes=0.49, gap=1, length=1, scales=2, flat=0.55)

UCF = {
    "checkpoint_every_steps": None,
    "clip": VIT_B16,
    "use_graph": True,
    "classifier_init_scale": 1.0,
    "mask_padding": False,
    "positions": True,
    "distance_graph": "released",
    "model": UCF_MODEL,
    "align": 1.1,
    "cross_pseudo": UCF_LABELS,
    "length": 256,
    "batch_sampling": "balanced",  # half normal, half abnormal videos
    "normal_truth": "unmatched",  # as in the released ground truth
    "paper": UCF_PAPER,
    "clean": clean(batch_size=128, lr=7e-5),
}
XD = {
    "checkpoint_every_steps": None,
    "clip": VIT_B16,
    "use_graph": True,
    "classifier_init_scale": 1.0,
    "mask_padding": False,
    "positions": True,
    "distance_graph": "released",
    "model": XD_MODEL,
    "align": 5.0,
    "cross_pseudo": XD_LABELS,
    "length": 256,
    "batch_sampling": "uniform",  # videos of any class
    "normal_truth": "whole_video",
    "paper": XD_PAPER,
    "clean": clean(batch_size=96, lr=1e-5),
}
# The paper doesn't report ShanghaiTech, so the values are those of UCF-Crime.
SHANGHAITECH = {**UCF, "clip": "auto", "normal_truth": "whole_video"}
DEMO = {
    "checkpoint_every_steps": 50,
    "clip": "auto",
    "use_graph": False,  # on videos of a few dozen snippets it blurs the events
    "classifier_init_scale": 0.01,  # 1 turns the scores of some seeds upside down
    "mask_padding": False,
    "positions": True,
    "distance_graph": "released",
    # Attention windows of 8 snippets spread an event over its neighbours.
    "model": {**UCF_MODEL, "attn_window": 2},
    "align": 1.1,
    "cross_pseudo": SMALL_LABELS,
    "length": 32,
    "batch_sampling": "balanced",
    "normal_truth": "whole_video",
    "paper": UCF_PAPER,
    "clean": clean_small(steps=100, eval_every_steps=20, warmup=20, correct=True),
}
# A folder of few videos. Nothing in the model tells a snippet's place in its window.
# docs/small_data.md says what was chosen on which videos.
OTHER = {
    "checkpoint_every_steps": None,
    "clip": "auto",
    "use_graph": True,
    "classifier_init_scale": 1.0,
    "mask_padding": True,
    "positions": False,
    "distance_graph": "row_normalised",
    # The released 8 decoder blocks take more than twice the time.
    "model": {**UCF_MODEL, "decoder_layers": 2},
    "align": 1.1,
    "cross_pseudo": SMALL_LABELS | {"cross_pseudo_warmup": 60},
    "length": None,
    "batch_sampling": "balanced",
    "normal_truth": "whole_video",
    "paper": UCF_PAPER,
    "clean": clean_small(steps=120, eval_every_steps=None, warmup=10, correct=False),
}
DATASETS = {"ucf": UCF, "xd": XD, "shanghaitech": SHANGHAITECH, "demo": DEMO}
