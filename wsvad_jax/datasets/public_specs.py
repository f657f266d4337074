"""Cards, counts, file names and origins of UCF-Crime, XD-Violence and ShanghaiTech."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

from wsvad_jax.data import cards
from wsvad_jax.data.cards import Card
from wsvad_jax.data.tfds_builder import DatasetInfo
from wsvad_jax.datasets import ground_truth
from wsvad_jax.datasets.ground_truth import GroundTruth


@dataclasses.dataclass(frozen=True)
class PublicDataset:
    """Card, counts and file names of a public dataset; the first existing name counts."""

    card: Card
    counts: Mapping[str, int]  # number of videos per split
    lists: Mapping[str, Sequence[str]]
    truth: Sequence[str]
    read_ground_truth: Callable[[pathlib.Path, Sequence[str]], dict[str, GroundTruth]]
    about: DatasetInfo


def _read_shanghaitech(
    path: pathlib.Path, videos: Sequence[str]
) -> dict[str, GroundTruth]:
    if path.is_dir():
        return ground_truth.read_masks(path, videos)
    return ground_truth.read_json(path)


LICENCE_NOTE = (
    "The features' authors state no licence; {} Both are linked here, not "
    "redistributed."
)
PUBLIC_DATASETS = {
    "ucf": PublicDataset(
        cards.UCF,
        {"train": 1610, "test": 290},
        {
            "train": ("ucf_train.csv", "ucf_CLIP_rgb.csv", "Anomaly_Train.txt"),
            "test": ("ucf_test.csv", "ucf_CLIP_rgbtest.csv", "Anomaly_Test.txt"),
        },
        (
            "ucf_temporal_annotation.txt",
            "Temporal_Anomaly_Annotation_for_Testing_Videos.txt",
            "Temporal_Anomaly_Annotation.txt",
        ),
        lambda path, videos: ground_truth.read_ucf(path),
        DatasetInfo(
            "UCF-Crime: 1900 untrimmed surveillance videos, 13 kinds of anomaly; "
            "video labels for training, frame-level ground truth for the 290 test videos.",
            "https://www.crcv.ucf.edu/projects/real-world/",
            "@inproceedings{sultani2018real, title={Real-world Anomaly Detection in "
            "Surveillance Videos}, author={Sultani, Waqas and Chen, Chen and Shah, "
            "Mubarak}, booktitle={CVPR}, year={2018}}",
            LICENCE_NOTE.format("the videos are for research."),
        ),
    ),
    "xd": PublicDataset(
        cards.XD,
        {"train": 3954, "test": 800},
        {
            "train": ("xd_train.csv", "xd_CLIP_rgb.csv"),
            "test": ("xd_test.csv", "xd_CLIP_rgbtest.csv"),
        },
        (
            "xd_annotation_multiclass.txt",
            "annotations_multiclasses.txt",
            "xd_annotation.txt",
            "annotations.txt",
        ),
        lambda path, videos: ground_truth.read_xd(path),
        DatasetInfo(
            "XD-Violence: 4754 untrimmed videos from movies and the web, 6 kinds of "
            "violence, several per video; frame-level ground truth for the 800 test videos.",
            "https://roc-ng.github.io/XD-Violence/",
            "@inproceedings{wu2020not, title={Not only Look, but also Listen: Learning "
            "Multimodal Violence Detection under Weak Supervision}, author={Wu, Peng "
            "and Liu, Jing and Shi, Yujia and Sun, Yujia and Shao, Fangtao and Wu, "
            "Zhaoyang and Yang, Zhiwei}, booktitle={ECCV}, year={2020}}",
            LICENCE_NOTE.format("the videos' terms are on the homepage."),
        ),
    ),
    "shanghaitech": PublicDataset(
        cards.SHANGHAITECH,
        {"train": 238, "test": 199},
        {
            "train": ("shanghaitech_train.csv", "SH_Train.txt"),
            "test": ("shanghaitech_test.csv", "SH_Test.txt"),
        },
        ("shanghaitech_test_segments.json", "test_frame_mask"),
        _read_shanghaitech,
        DatasetInfo(
            "ShanghaiTech Campus in the weakly supervised split of Zhong et al. "
            "(CVPR 2019): 437 videos of 13 cameras, normal or not.",
            "https://svip-lab.github.io/dataset/campus_dataset.html",
            "@inproceedings{liu2018future, title={Future Frame Prediction for Anomaly "
            "Detection - A New Baseline}, author={Liu, Wen and Luo, Weixin and Lian, "
            "Dongze and Gao, Shenghua}, booktitle={CVPR}, year={2018}}",
            LICENCE_NOTE.format("the videos' terms are on the homepage."),
        ),
    ),
}
