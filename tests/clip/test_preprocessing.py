"""What a snapshot's files say of pictures is done, or refused by name."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from wsvad_jax.clip.preprocessing import (
    IMAGE_MEAN,
    IMAGE_STD,
    Preprocessing,
    read_preprocessing,
)
from wsvad_jax.extraction import video
from wsvad_jax.utils.errors import InputError

S = 32
OPENAI = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": S},
    "crop_size": {"height": S, "width": S},
    "resample": 3,
    "image_mean": list(IMAGE_MEAN),
    "image_std": list(IMAGE_STD),
}


def write(folder, name="preprocessor_config.json", **values):
    (folder / name).write_text(json.dumps(values))


def read(folder, **values) -> Preprocessing:
    write(folder, **OPENAI | values)
    return read_preprocessing(folder, S)


def test_without_a_file_it_is_openai_s(tmp_path):
    found = read_preprocessing(tmp_path, S)
    assert found == Preprocessing(S, S) and not found.source
    again = read(tmp_path)
    assert again == found and again.source.endswith("preprocessor_config.json")


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        ({"image_mean": [0.5] * 3, "image_std": 0.5}, {"mean": (0.5,) * 3, "std": (0.5,) * 3}),
        ({"size": 40}, {"size": 40}),
        ({"size": {"height": 36, "width": 48}}, {"size": (36, 48)}),
        ({"size": [S, S], "do_center_crop": False}, {"size": (S, S)}),
        ({"crop_size": S, "size": None}, {}),
        ({"resample": 2}, {"interpolation": "bilinear"}),
        ({"resample": None, "interpolation": "Lanczos"}, {"interpolation": "lanczos"}),
        ({"rescale_factor": 0.5}, {"scale": 0.5}),
        ({"do_rescale": False}, {"scale": 1.0}),
        ({"do_normalize": False}, {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        ({"image_mean": [0.48145467, 0.4578275, 0.4082107]}, {}),
        ({"image_processor_type": None, "feature_extractor_type": "CLIPFeatureExtractor"}, {}),
        ({"do_convert_rgb": False, "do_pad": False, "pad_size": None}, {}),
    ],
)  # fmt: skip
def test_what_files_say_counts(tmp_path, values, changes):
    assert read(tmp_path, **values) == dataclasses.replace(
        Preprocessing(S, S), **changes
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_processor_type": "SiglipImageProcessor"}, "image_processor_type is 'SiglipIm"),
        ({"feature_extractor_type": "ViTFeatureExtractor"}, "feature_extractor_type is 'ViT"),
        ({"crop_size": 224}, "crop_size is 224; expected 32, config.json's image_size"),
        ({"size": {"shortest_edge": 16}}, "size is .*16.*; expected at least the crop's 32"),
        ({"size": {"longest_edge": S}}, "size is {'longest_edge': 32}; expected pixels"),
        ({"size": [S, 48]}, r"size is \[32, 48\]"),
        ({"size": True}, "size is True"),
        ({"do_center_crop": False}, "do_center_crop is False; expected true, or height"),
        ({"do_center_crop": "no"}, "do_center_crop is 'no'; expected true or false"),
        ({"do_resize": False}, "do_resize is False; expected true"),
        ({"resample": 9}, "resample is 9; expected one of nearest"),
        ({"interpolation": "bilinear"}, "interpolation is 'bilinear'; expected bicubic, as"),
        ({"rescale_factor": 0}, "rescale_factor is 0; expected a number above 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor is '1/255'"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean is \[0.5, 0.5\]; expected three"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std is .*; expected numbers above 0"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order is True, which isn't supp"),
        ({"crop_pct": 0.9}, "crop_pct is 0.9, which isn't supported"),
    ],
)  # fmt: skip
def test_what_is_not_done_is_refused(tmp_path, values, message):
    with pytest.raises(InputError, match=f"preprocessor_config.json: {message}"):
        read(tmp_path, **values)


def test_other_files_and_contradictions(tmp_path):
    own = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    write(tmp_path, "open_clip_config.json", preprocess_cfg=own, model_cfg={"a": 1})
    found = read_preprocessing(tmp_path, S)
    assert found.mean == (0.5, 0.5, 0.5) and found.size == (S, S)
    with pytest.raises(InputError, match=r"preprocessor_config.json and .*open_clip_"
                                         "config.json ask for different .*mean"):  # fmt: skip
        read(tmp_path)
    own["resize_mode"] = "longest"
    write(tmp_path, "open_clip_config.json", preprocess_cfg=own)
    with pytest.raises(InputError, match="resize_mode is 'longest'; expected shortest"):
        read_preprocessing(tmp_path, S)
    (tmp_path / "open_clip_config.json").unlink()

    # transformers 5 nests it; older files of that name say nothing of pictures.
    write(tmp_path, "processor_config.json", processor_class="CLIPProcessor")
    assert read(tmp_path) == Preprocessing(S, S)
    nested = OPENAI | {"resample": 2}
    write(tmp_path, "processor_config.json", image_processor=nested)
    with pytest.raises(InputError, match="interpolation bicubic and bilinear"):
        read(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    assert read_preprocessing(tmp_path, S).interpolation == "bilinear"
    (tmp_path / "preprocessor_config.json").write_text("[]")
    with pytest.raises(InputError, match="expected a JSON object"):
        read_preprocessing(tmp_path, S)


@pytest.mark.parametrize(
    "values",
    [
        {"size": {"shortest_edge": 40}, "resample": 2},
        {"size": {"height": 36, "width": 48}, "image_mean": [0.5] * 3},
        {"do_rescale": False, "do_normalize": False},
    ],
)
def test_pictures_are_those_of_transformers(tmp_path, values):
    module = pytest.importorskip("transformers").models.clip
    kind = getattr(module, "CLIPImageProcessorPil", None) or module.CLIPImageProcessor
    made = read(tmp_path, **values)
    picture = np.random.RandomState(0).randint(0, 256, (60, 80, 3), np.uint8)
    wanted = kind.from_pretrained(tmp_path)(
        Image.fromarray(picture), return_tensors="np"
    )
    cut = video.crop(
        picture, S, resize="clip", shape=made.size, interpolation=made.interpolation
    )
    found = (cut.astype(np.float64) * made.scale - made.mean) / made.std
    np.testing.assert_allclose(
        found.transpose(0, 3, 1, 2), wanted["pixel_values"], atol=1e-4
    )
