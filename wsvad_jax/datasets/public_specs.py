"""Cards, counts, file names and origins of the public datasets."""

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
    """Card, counts and file names of a public dataset; the first existing name counts.

    A list may also be several files, all of which are needed.
    """

    card: Card
    counts: Mapping[str, int]  # number of videos per split
    lists: Mapping[str, Sequence[str | tuple[str, ...]]]
    truth: Sequence[str]
    read_ground_truth: Callable[[pathlib.Path, Sequence[str]], dict[str, GroundTruth]]
    about: DatasetInfo


def _read_shanghaitech(
    path: pathlib.Path, videos: Sequence[str]
) -> dict[str, GroundTruth]:
    if path.is_dir():
        return ground_truth.read_masks(path, videos)
    return ground_truth.read_json(path)


def _read_msad(path: pathlib.Path, videos: Sequence[str]) -> dict[str, GroundTruth]:
    # The table has the training videos, too.
    truth = ground_truth.read_msad(path)
    return {video: truth[video] for video in videos if video in truth}


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
    # Protocol ii of the paper, for weak supervision.
    "msad": PublicDataset(
        cards.MSAD,
        {"train": 480, "test": 240},
        {
            "train": (
                "msad_train.csv",
                "MSAD_I3D_WS_Train.list",
                "msad-i3d.list",
                "msad-swin.list",
            ),
            "test": (
                "msad_test.csv",
                "MSAD_I3D_WS_Test.list",
                "msad-i3d-test.list",
                "msad-swin-test.list",
            ),
        },
        ("anomaly_annotation.csv",),
        _read_msad,
        DatasetInfo(
            "MSAD, protocol ii: 720 videos of 14 kinds of scene, 11 kinds of anomaly; "
            "video labels for training, frame-level ground truth for the 240 test videos.",
            "https://msad-dataset.github.io",
            "@inproceedings{zhu2024advancing, title={Advancing Video Anomaly Detection: "
            "A Concise Review and a New Dataset}, author={Zhu, Liyun and Wang, Lei and "
            "Raj, Arjun and Gedeon, Tom and Chen, Chen}, booktitle={NeurIPS Datasets "
            "and Benchmarks}, year={2024}}",
            LICENCE_NOTE.format("the videos are for research, on application."),
        ),
    ),
    "ubnormal": PublicDataset(
        cards.UBNORMAL,
        {"train": 268, "test": 211},
        {
            split: (
                f"ubnormal_{split}.csv",
                (
                    f"normal_{folder}_video_names.txt",
                    f"abnormal_{folder}_video_names.txt",
                ),
            )
            for split, folder in (("train", "training"), ("test", "test"))
        },
        ("ubnormal_tracks", "tracks", "."),
        ground_truth.read_ubnormal_tracks,
        DatasetInfo(
            "UBnormal: 543 rendered videos of 29 scenes; only the labels of its training "
            "videos are used, and its 64 validation videos are not. Frame-level ground "
            "truth for the 211 test videos, whose kinds of anomaly are others.",
            "https://github.com/lilygeorgescu/UBnormal",
            "@inproceedings{acsintoae2022ubnormal, title={UBnormal: New Benchmark for "
            "Supervised Open-Set Video Anomaly Detection}, author={Acsintoae, Andra and "
            "Florescu, Andrei and Georgescu, Mariana-Iuliana and Mare, Tudor and "
            "Sumedrea, Paul and Ionescu, Radu Tudor and Khan, Fahad Shahbaz and Shah, "
            "Mubarak}, booktitle={CVPR}, year={2022}}",
            LICENCE_NOTE.format("the videos are CC BY-NC-ND 4.0."),
        ),
    ),
}
