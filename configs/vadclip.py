"""VadCLIP: Wu et al., AAAI 2024, https://arxiv.org/abs/2308.11681.

  python -m wsvad_jax.train --config configs/vadclip.py           the demo dataset
  python -m wsvad_jax.train --config configs/vadclip.py:ucf       UCF-Crime
  python -m wsvad_jax.train --config configs/vadclip.py:xd        XD-Violence
  python -m wsvad_jax.train --config configs/vadclip.py:FOLDER    a prepared dataset

Published: UCF-Crime AUC 88.02, Ano-AUC 70.23, mAP AVG 6.68; XD-Violence AP 84.51, mAP
AVG 24.70. The released checkpoints score 88.0199 (`auc`, UCF-Crime) and 84.5045
(`ap_align`, XD-Violence); an independent rerun on the released features reached AUC
86.5 on UCF-Crime.

Protocol `paper` is the released training: it selects weights on the test set, and each
epoch starts from the best weights. Protocol `clean` (the default) selects on held-out
training videos and uses the test set once. On small datasets, `clean` has our own
schedule, holds no video out and keeps the last weights.

The recipe follows the release: padded snippets take part in the windowed attention.
`mask_padding` leaves them out.

Switches of the paper's ablations:
  temporal modules     --config.model.use_local=False, --config.model.use_graph=False
  C-branch alone       --config.model.align=False
  A-branch alone       --config.model.classify=False
  prompts              --config.model.learn_prompt=False,
                       --config.model.visual_prompt=False
Beyond the paper, --config.loss.cross_pseudo=1 adds the cross pseudo-labels of CPL-VAD.
"""

from ml_collections import ConfigDict

VIT_B16 = "openai/clip-vit-base-patch16"  # CLIP model of the released features


def get_config(dataset: str = "demo") -> ConfigDict:
    """Returns the recipe of a dataset: ucf, xd, shanghaitech, demo or any other."""
    values = DATASETS.get(dataset, OTHER)

    config = ConfigDict()
    config.model_name = "vadclip"
    config.seed = 0
    config.seeds = (0, 1, 2)  # default of --seeds
    config.protocol = "clean"  # or paper
    # Steps between checkpoints; None: each epoch.
    config.checkpoint_every_steps = values["checkpoint_every_steps"]

    # Hub name or folder of the CLIP snapshot whose text tower encodes the class names.
    # auto: the snapshot that the dataset's card names, or random weights.
    config.clip = values["clip"]

    config.model = ConfigDict()
    config.model.visual_layers = values["visual_layers"]
    config.model.visual_heads = 1
    config.model.attn_window = values["attn_window"]  # snippets
    config.model.use_local = True
    config.model.use_graph = values["use_graph"]
    config.model.classify = True
    config.model.align = True
    config.model.learn_prompt = True
    config.model.visual_prompt = True
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
    config.loss.align = 1.0
    config.loss.text = values["text"]
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
    *,
    batch_size: int,
    lr: float,
    milestones: tuple[int, ...],
    metric: str,
    eval_every_steps: int | None,
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
        "optim": {"default": adamw(lr, milestones)},
    }


def clean(*, batch_size: int, lr: float, milestones: tuple[int, ...]) -> dict:
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
        "optim": {"default": adamw(lr, milestones)},
    }


def clean_small(
    *, steps: int, eval_every_steps: int | None, correct: bool, optim: dict
) -> dict:
    """Returns our short training on few videos, which keeps the last weights."""
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
        "optim": {"default": optim},
    }


def cross_pseudo(
    *, warmup: int, votes: float, gap: int, length: int, scales: int, flat: float
) -> dict:
    """Returns the settings of wsvad_jax.models.cross_pseudo, with its prefix."""
    settings = {"warmup": warmup, "votes": votes, "calm": 0.2, "gap": gap}
    settings |= {"length": length, "scales": scales, "flat": flat}
    return {f"cross_pseudo_{name}": value for name, value in settings.items()}


def adamw(lr: float, milestones: tuple[int, ...]) -> dict:
    """Returns AdamW; its rate falls to a tenth after each epoch of `milestones`."""
    return {
        "name": "adamw",
        "lr": lr,
        "weight_decay": 0.01,
        "schedule": "steps_epochs",
        "milestones": milestones,
    }


UCF_PAPER = paper(
    batch_size=128, lr=2e-5, milestones=(4, 8), metric="auc", eval_every_steps=10
)
XD_PAPER = paper(
    batch_size=96,
    lr=1e-5,
    milestones=(3, 6, 10),
    metric="ap_align",
    eval_every_steps=None,
)

# CPL-VAD's released settings, for windows of 256 snippets. The warm-up, about half of
# the training, is ours.
UCF_LABELS = cross_pseudo(warmup=600, votes=0.49, gap=5, length=6, scales=5, flat=0.55)
XD_LABELS = cross_pseudo(warmup=1000, votes=0.73, gap=21, length=7, scales=5, flat=0.95)
# Those of UCF-Crime, for windows of 32 snippets.
SMALL_LABELS = cross_pseudo(warmup=75, votes=0.49, gap=1, length=1, scales=2, flat=0.55)

UCF = {
    "checkpoint_every_steps": None,
    "clip": VIT_B16,
    "use_graph": True,
    "classifier_init_scale": 1.0,
    "mask_padding": False,
    "positions": True,
    "distance_graph": "released",
    "visual_layers": 2,
    "attn_window": 8,
    "text": 0.1,
    "cross_pseudo": UCF_LABELS,
    "length": 256,
    "batch_sampling": "balanced",  # half normal, half abnormal videos
    "normal_truth": "unmatched",  # as in the released ground truth
    "paper": UCF_PAPER,
    "clean": clean(batch_size=128, lr=2e-5, milestones=(4, 8)),
}
XD = {
    "checkpoint_every_steps": None,
    "clip": VIT_B16,
    "use_graph": True,
    "classifier_init_scale": 1.0,
    "mask_padding": False,
    "positions": True,
    "distance_graph": "released",
    "visual_layers": 1,
    "attn_window": 64,
    "text": 1e-4,
    "cross_pseudo": XD_LABELS,
    "length": 256,
    "batch_sampling": "uniform",  # videos of any class
    "normal_truth": "whole_video",
    "paper": XD_PAPER,
    "clean": clean(batch_size=96, lr=1e-5, milestones=(3, 6, 10)),
}
# The paper doesn't report ShanghaiTech, so the values are those of UCF-Crime.
SHANGHAITECH = {**UCF, "clip": "auto", "normal_truth": "whole_video"}
DEMO = {
    "checkpoint_every_steps": 30,
    "clip": "auto",
    "use_graph": False,  # on videos of a few dozen snippets it blurs the events
    "classifier_init_scale": 1.0,
    "mask_padding": False,
    "positions": True,
    "distance_graph": "released",
    "visual_layers": 2,
    "attn_window": 8,
    "text": 0.1,
    "cross_pseudo": SMALL_LABELS,
    "length": 32,
    "batch_sampling": "balanced",
    "normal_truth": "whole_video",
    "paper": UCF_PAPER,
    "clean": clean_small(
        steps=150, eval_every_steps=30, correct=True, optim=adamw(1e-4, (4, 8))
    ),
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
    "visual_layers": 2,
    "attn_window": 8,
    "text": 0.1,
    "cross_pseudo": SMALL_LABELS | {"cross_pseudo_warmup": 30},
    "length": None,
    "batch_sampling": "balanced",
    "normal_truth": "whole_video",
    "paper": UCF_PAPER,
    "clean": clean_small(
        steps=60,
        eval_every_steps=None,
        correct=False,
        optim={
            "name": "adamw",
            "lr": 1e-4,
            "weight_decay": 0.01,
            "schedule": "constant",
        },
    ),
}
DATASETS = {"ucf": UCF, "xd": XD, "shanghaitech": SHANGHAITECH, "demo": DEMO}
