"""Published numbers of the models in %, with the source of each.

Keys of `values` are those of results.json; the paper's code decides between `ap` and
`ap_trapezoid`. All numbers of trained models are of weights that were selected on the
test set. Those of zero_shot are of systems without training, as LAVAD's paper reports
them. We confirmed LAVAD's own two numbers in independent listings, and could not open
the table that has CLIP's two.
"""

import dataclasses
from collections.abc import Mapping

MIL = "https://arxiv.org/abs/1801.04264"
RTFM = "https://arxiv.org/abs/2101.10030"  # re-ran MIL ranking
CLIP_TSA = "https://arxiv.org/abs/2212.05136"
VADCLIP = "https://arxiv.org/abs/2308.11681"  # re-ran MIL ranking, too
DSANET = "https://arxiv.org/abs/2511.10334"
LAVAD = "https://arxiv.org/abs/2404.01014"  # CVPR 2024; ran zero-shot CLIP, too


@dataclasses.dataclass(frozen=True)
class Published:
    """Published numbers of one model on one dataset."""

    dataset: str
    model: str
    features: str
    source: str
    values: Mapping[str, float]  # metric → %
    system: str = ""  # words in the place of the features, where those don't suffice

    @property
    def weights_description(self) -> str:
        """Description of the row in a table of results."""
        return f"published, {self.system or f'{self.features} features'}"


# MIL ranking has several rows, since later papers ran it on other features. LAVAD
# captions frames and asks a language model: another system without training.
LAVAD_SYSTEM = "LAVAD: captions and a language model"
UNCONFIRMED = "CLIP features; not confirmed by us"
PUBLISHED = (
    Published("ucf", "zero_shot", "CLIP", LAVAD, {"auc": 53.16}, UNCONFIRMED),
    Published("ucf", "zero_shot", "text", LAVAD, {"auc": 80.28}, LAVAD_SYSTEM),
    Published("ucf", "mil_ranking", "C3D", MIL, {"auc": 75.41}),
    Published("ucf", "mil_ranking", "I3D", RTFM, {"auc": 77.92}),
    Published(
        *("ucf", "mil_ranking", "CLIP", VADCLIP),
        {"auc": 84.14, "ano_auc": 63.29, "map_avg": 3.24},
    ),
    Published("ucf", "clip_tsa", "CLIP", CLIP_TSA, {"auc": 87.58}),
    Published(
        *("ucf", "vadclip", "CLIP", VADCLIP),
        {"auc": 88.02, "ano_auc": 70.23, "map_avg": 6.68},
    ),
    Published("ucf", "dsanet", "CLIP", DSANET, {"auc": 89.44, "map_avg": 13.01}),
    Published("xd", "zero_shot", "CLIP", LAVAD, {"ap": 17.83}, UNCONFIRMED),
    Published("xd", "zero_shot", "text", LAVAD, {"ap": 62.01}, LAVAD_SYSTEM),
    Published("xd", "mil_ranking", "C3D", RTFM, {"ap_trapezoid": 73.20}),
    Published("xd", "mil_ranking", "CLIP", VADCLIP, {"ap": 75.18, "map_avg": 11.65}),
    Published("xd", "clip_tsa", "CLIP", CLIP_TSA, {"ap_trapezoid": 82.19}),
    Published("xd", "vadclip", "CLIP", VADCLIP, {"ap_align": 84.51, "map_avg": 24.70}),
    Published("xd", "dsanet", "CLIP", DSANET, {"ap": 86.95, "map_avg": 28.87}),
    Published("shanghaitech", "clip_tsa", "CLIP", CLIP_TSA, {"auc": 98.32}),
)
