"""Zero-shot CLIP: Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020.

  python -m wsvad_jax.evaluate --config configs/zero_shot.py --workdir OUT       the demo
  python -m wsvad_jax.evaluate --config configs/zero_shot.py:ucf --workdir OUT   UCF-Crime
  python -m wsvad_jax.evaluate --config configs/zero_shot.py:FOLDER --workdir OUT

Nothing is trained: CLIP compares each snippet with the prompts of the dataset's card. The
features must come from the image tower of the same CLIP model (`config.clip`).

Published, as LAVAD (CVPR 2024, https://arxiv.org/abs/2404.01014) reports them: UCF-Crime
AUC 53.16, XD-Violence AP 17.83 for CLIP; 80.28 and 62.01 for LAVAD, which captions frames
and asks a language model.

Switches:
  score rule           --config.model.score=max_anomaly
  temperature          --config.model.temperature=0.07
  video's own mean     --config.model.subtract_mean
  prompt ensemble      --config.templates="('{}', 'a photo of {}', 'a video of {}')"
"""

from ml_collections import ConfigDict

VIT_B16 = "openai/clip-vit-base-patch16"  # CLIP model of the released features


def get_config(dataset: str = "demo") -> ConfigDict:
    """Returns the recipe of a dataset: ucf, xd, shanghaitech, demo or any other."""
    config = ConfigDict()
    config.model_name = "zero_shot"
    config.seed = 0  # not used: nothing is random
    config.seeds = (0,)
    config.protocol = "clean"  # the test set is scored once, and nothing is selected

    # Hub name or folder of the CLIP snapshot that made the features; its text tower
    # encodes the prompts. auto: the snapshot that the dataset's card names.
    config.clip = VIT_B16 if dataset in ("ucf", "xd") else "auto"

    # Each prompt of the card is put into each template, in the place of {}. The features
    # of all texts of a class are averaged.
    config.templates = ("{}",)

    config.model = ConfigDict()
    # 1 - p(normal), or max_anomaly: the probability of the likeliest anomaly class. On two
    # demo worlds of other seeds, not_normal had frame AUC 89 and max_anomaly 67.
    config.model.score = "not_normal"
    config.model.temperature = None  # divides the cosines; None: the CLIP model's
    config.model.subtract_mean = False  # True: relative to the video's own mean

    config.data = ConfigDict()
    config.data.name = dataset
    # Results are split into these anomaly classes and the others; "": no split.
    config.data.base_classes = ""
    config.data.length = 256  # snippets whose mean a live source has; size of batches

    # Number of devices along each axis; data=None takes all remaining ones.
    config.mesh = ConfigDict({"data": None, "fsdp": 1})

    config.eval = ConfigDict()
    config.eval.mode = "whole"  # whole videos, the mean over all crops
    config.eval.batch_size = 32
    # How mAP treats normal videos; unmatched: as in the released ground truth.
    config.eval.normal_truth = "unmatched" if dataset == "ucf" else "whole_video"
    return config
