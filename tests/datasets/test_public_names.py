"""Public features whose files have one name, and lists with quotes."""

import shutil

import pytest
from test_public import Release, check_counts, one_file, rewrite

from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.utils.errors import InputError


@pytest.fixture
def release(shared, tmp_path):
    return Release(shared, "shanghaitech", tmp_path)


@pytest.fixture
def campus(release):
    release.write(one_file)
    return release


def two_kinds(split, video, label):
    return [f"RGB/{video}.npy", f"Flow/{video}.npy"]


def test_two_kinds_of_features_are_not_taken_for_one(release):
    release.write(two_kinds)
    message = "Flow/(.*).npy and .*RGB/\\1.npy are both features of video \\1, maybe of"
    with pytest.raises(InputError, match=message):
        release.load()
    release.features /= "RGB"
    check_counts(release.load(), "shanghaitech", (175, 155))


@pytest.mark.parametrize(
    "second", ["copy/{}.npy", "{}_i3d.npy", "{}.mp4.npy", "{}__0.npy"]
)
def test_two_files_of_one_video(campus, second):
    video = campus.lists["train"][5][0]
    other = campus.features / second.format(video)
    other.parent.mkdir(exist_ok=True)
    shutil.copy(campus.features / f"{video}.npy", other)
    with pytest.raises(InputError, match=f"are both features of video {video}"):
        campus.load()
    problems = ErrorCollector(skip=True)
    assert len(campus.load(problems).splits["train"]) == 237
    assert other.name in str(problems.errors[0])


def test_features_named_after_video_files(release):
    release.write(lambda split, video, label: [f"{video}.mp4.npy"])
    check_counts(release.load(), "shanghaitech", (175, 155))


def test_quotes_in_a_public_list(campus):
    path = campus.annotations / "shanghaitech_train.csv"
    rewrite(path, lambda text: text.replace(",Normal", ', "Normal"'))
    assert len(campus.load().splits["train"]) == 238
    rewrite(path, lambda text: text.replace(', "Normal"', ', "Normal', 1))
    with pytest.raises(InputError, match=r"train.csv:\d+: the quotes cannot be read"):
        campus.load()
