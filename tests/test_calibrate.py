"""The program: what it prints and writes, and what is bad input."""

import json
import shutil

import numpy as np
import pytest
from untrained import write_model

from wsvad_jax import calibrate, detect
from wsvad_jax.utils import program
from wsvad_jax.utils.files import read_json


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    """A model and ten minutes of ordinary features."""
    path = tmp_path_factory.mktemp("place")
    write_model(tiny, "mil_ranking", path / "model")
    (path / "normal").mkdir()
    random = np.random.RandomState(0)
    for i in range(10):
        x = random.standard_normal((113, 32)).astype("f2")
        np.save(path / "normal" / f"{i}.npy", x)
    (path / "words.txt").write_text("no features")
    (path / "empty").mkdir()
    return path


def run(place, *arguments):
    given = ["--checkpoint", place / "model", "--normal", place / "normal"]
    return calibrate.main([str(a) for a in (*given, "--fps", 30, *arguments)])


def refused(capsys, place, *arguments):
    """What the program says about arguments that it refuses, in one line."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: run(place, *arguments))
    assert e.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err and err.count("error: ") == 1 and not out
    return err[err.index("error: ") :].strip()


def test_a_folder_is_calibrated_and_detect_takes_it(place, tmp_path, capsys):
    output, found = tmp_path / "calibration", tmp_path / "found"
    words = ["--false-alarms-per-day", 400, "--output", output, "--check_splits", 3]
    assert run(place, *words, "--min_prominence", 0.02) == 0
    out = capsys.readouterr().out
    assert "0.17 h of ordinary recordings (files: 10), 10 blocks of 60 s" in out
    assert "expected false alarms per day above it: " in out
    assert "observed within the promised 95 % interval" in out
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdecimal()] == ["0", "1", "2"]

    inputs = [place / "normal", "--checkpoint", place / "model", "--output", found]
    words = [*inputs, "--calibration", output]
    assert detect.main([str(word) for word in words]) == 0
    settings = read_json(found / "events.json")["settings"]
    assert settings["threshold"] == round(
        read_json(output / "calibration.json")["threshold"], 4
    )
    assert settings["min_prominence"] == 0.02


@pytest.mark.parametrize(
    "wish, message",
    [
        (["--false_alarms_per_100_videos", 1], "10 ordinary videos can't support 1 "),
        (["--false_alarms_per_day", 1], "0.17 h of ordinary recordings (10 blocks"),
        (["--block", 700], "603 s of ordinary recordings are no block of 700 s"),
    ],
)
def test_too_few_recordings_are_refused_before_they_are_scored(
    place, tmp_path, capsys, wish, message
):
    # The model can't score this width, which only scoring would say.
    for i in range(10):
        np.save(tmp_path / f"{i}.npy", np.ones((113, 24), np.float16))
    words = ["--normal", tmp_path, "--output", tmp_path / "out"]
    assert message in refused(capsys, place, *words, *wish)
    assert not (tmp_path / "out").exists()

    # Enough of them are scored.
    said = refused(capsys, place, *words, "--false_alarms_per_day", 400)
    assert "no recording could be read" in said


def test_copies_of_a_recording_are_named(place, tmp_path, capsys):
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in "abc":
        shutil.copy(place / "normal" / "1.npy", copies / f"{name}.npy")
    words = ["--false-alarms-per-day", 400, "--output", tmp_path / "calibration"]
    for given, said in (
        ([place / "normal"], ""),
        ([place / "normal", copies], "3 rec"),
    ):
        assert run(place, "--normal", *given, *words) == 0
        err = capsys.readouterr().err
        assert (f"note: {said}ordings counted more than once" in err) == bool(said)
    assert "such as a, a copy of 1: " in err


def test_separate_videos_are_promised_by_video(place, tmp_path, capsys):
    output, found = tmp_path / "calibration", tmp_path / "found"
    words = ["--false_alarms_per_100_videos", 40, "--min_prominence", 0.02]
    assert run(place, *words, "--output", output, "--check_splits", 3) == 0
    out = capsys.readouterr().out
    assert "10 ordinary videos, " in out and "for 40 false alarms per 100 videos" in out
    assert "interval for these videos: " in out and " in 5 videos" in out

    value = read_json(output / "calibration.json")
    assert len(value["block_scores"]) == 10 and "hours" not in value
    # 4 of 11 places of a new video are above the threshold: 36 per 100.
    assert sum(s > value["threshold"] for s in value["block_scores"]) == 3
    assert value["false_alarms_per_100_videos"]["expected"] == 36.4

    inputs = [place / "normal", "--checkpoint", place / "model", "--output", found]
    words = [*inputs, "--calibration", output]
    assert detect.main([str(word) for word in words]) == 0
    videos = read_json(found / "events.json")["videos"]
    events = [event for video in videos for event in video["events"]]
    assert sum(bool(video["events"]) for video in videos) == 3
    assert all(e["false_alarms_per_100_videos"]["blocks"] <= 3 for e in events)
    page = (found / "report.html").read_text()
    assert "Expected false alarms per 100 videos at this score: " in page
    assert "Expected false alarms per 100 videos above the calibration" in page
    head = (found / "events.csv").read_text().splitlines()[0]
    assert head.endswith("false_alarms_per_100_videos_high") and "per_day" not in head


def test_recordings_unlike_the_ordinary_ones_are_named(place, tmp_path, capsys):
    """Copies of the highest and the lowest recording stand for other conditions."""

    def detected(wish, copied):
        folder = tmp_path / f"{wish}_{copied}"
        words = ["--false_alarms_per_100_videos", wish, "--min_prominence", 0.02]
        assert run(place, *words, "--output", folder / "calibration") == 0
        (folder / "new").mkdir()
        for i in range(10):
            source = place / "normal" / f"{i if copied is None else copied}.npy"
            (folder / "new" / f"{i}.npy").write_bytes(source.read_bytes())
        inputs = [folder / "new", "--checkpoint", place / "model"]
        words = ["--calibration", folder / "calibration", "--output", folder / "found"]
        capsys.readouterr()
        assert detect.main([str(word) for word in [*inputs, *words]]) == 0
        settings = read_json(folder / "found" / "events.json")["settings"]
        page = (folder / "found" / "report.html").read_text()
        return settings, capsys.readouterr().err, page

    # The ordinary recordings themselves are within the interval.
    settings, err, _ = detected(40, None)
    assert settings["alarms"].startswith(
        "3 in 10 videos; ordinary recordings have 0 to "
    )
    assert "drift" not in settings and "calibrate again" not in err

    ranked = np.argsort([*highest_scores(place)])
    settings, err, page = detected(20, ranked[-1])
    sentence = "10 alarms in 10 videos, but ordinary recordings have 0 to "
    assert settings["drift"].startswith(sentence) and f"note: {sentence}" in err
    assert sentence in page and "much happened, or these recordings are unlike" in err

    settings, err, _ = detected(90, ranked[0])
    assert "note: only 0 alarms in 10 videos, but ordinary recordings have " in err
    assert "events may be missed" in settings["drift"]


def test_videos_longer_than_the_ordinary_ones_are_named(place, tmp_path, capsys):
    output, found = tmp_path / "calibration", tmp_path / "found"
    wish = ["--false_alarms_per_100_videos", 40, "--output", output]
    assert run(place, *wish) == 0
    assert read_json(output / "calibration.json")["longest_seconds"] == 60.267

    videos = [np.load(place / "normal" / f"{i}.npy") for i in range(3)]
    np.save(tmp_path / "long.npy", np.concatenate(videos))
    inputs = [place / "normal", tmp_path / "long.npy", "--checkpoint", place / "model"]
    words = [*inputs, "--calibration", output, "--output", found]
    capsys.readouterr()
    assert detect.main([str(word) for word in words]) == 0
    sentence = (
        "1 video of up to 180.8 s, where the longest of the calibration has 60.3 s"
    )
    assert f"note: {sentence}" in capsys.readouterr().err
    assert sentence in read_json(found / "events.json")["settings"]["drift"]


def highest_scores(place):
    """Yields the highest score of each ordinary recording."""
    detector = detect.Detector(place / "model", progress=False)
    for i in range(10):
        x, edges = np.load(place / "normal" / f"{i}.npy"), np.arange(114.0)
        events = detector.detect(x, edges, "v", min_prominence=0.02).events
        yield max((event.score for event in events), default=0.0)


def test_json_is_the_file_and_the_splits(place, tmp_path, capsys):
    words = ["--false-alarms-per-day", 400, "--output", tmp_path, "--json"]
    assert run(place, *words, "--check_splits", 2) == 0
    value = json.loads(capsys.readouterr().out)
    splits = value.pop("splits")
    assert value == read_json(tmp_path / "calibration.json")
    assert len(splits) == 2 and {"threshold", "alarms", "hours"} <= splits[0].keys()


def test_a_wish_beyond_the_data_leaves_nothing(place, tmp_path, capsys):
    output = tmp_path / "calibration"
    message = refused(capsys, place, "--output", output)
    assert message.startswith(
        "error: 0.17 h of ordinary recordings (10 blocks of 60 s)"
    )
    assert "needs 24.0 h; record more, or wish for 131 per day or more" in message
    assert not output.exists()
    words = ["--false-alarms-per-day", 140, "--check_splits", 2, "--output", output]
    assert "--check_splits, of half the recordings: 0.08 h" in refused(
        capsys, place, *words
    )
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--false_alarms_per_day", "0"], "is 0; expected more than 0"),
        (["--false_alarms_per_day", "-1"], "is -1; expected more than 0"),
        (["--false_alarms_per_day", "nan"], "is nan; expected more than 0"),
        (["--false_alarms_per_day", "inf"], "is inf; expected more than 0"),
        (["--false_alarms_per_day", "many"], "invalid float value: 'many'"),
        (["--false_alarms_per_day", "1440"], "one or more per block of 60 s"),
        (["--false_alarms_per_day", "1e300"], "one or more per block of 60 s"),
        (["--false_alarms_per_day", "1e-300"], "is 1e-300; expected 0.001 or more"),
        (["--false_alarms_per_day", "1,5"], "invalid float value: '1,5'"),
        (["--false_alarms_per_day", "5%"], "invalid float value: '5%'"),
        (["--false_alarms_per_day", ""], "invalid float value: ''"),
        (["--block", "0"], "--block is 0; expected 10 to 86400 seconds"),
        (["--block", "-1"], "--block is -1; expected 10 to 86400 seconds"),
        (["--block", "9.99"], "--block is 9.99; expected 10 to 86400 seconds"),
        (["--block", "86401"], "--block is 86401; expected 10 to 86400 seconds"),
        (["--block", "video"], "invalid float value: 'video'"),
        (["--block", "60s"], "invalid float value: '60s'"),
        (["--block", ""], "invalid float value: ''"),
        (["--block", "nan"], "--block is nan; expected 10 to 86400 seconds"),
        (["--block", "1e9"], "--block is 1e+09; expected 10 to 86400 seconds"),
        (["--false_alarms_per_100_videos", "0"], "is 0; expected more than 0"),
        (["--false_alarms_per_100_videos", "-5"], "is -5; expected more than 0"),
        (["--false_alarms_per_100_videos", "nan"], "is nan; expected more than 0"),
        (["--false_alarms_per_100_videos", "inf"], "is inf; expected more than 0"),
        (["--false_alarms_per_100_videos", "100"], "is 100; expected fewer than 100"),
        (["--false_alarms_per_100_videos", "5 %"], "invalid float value: '5 %'"),
        (["--false_alarms_per_100_videos", ""], "invalid float value: ''"),
        (
            ["--false_alarms_per_100_videos", "1"],
            "that needs 99 videos; record more, or wish for 9.1 per 100 videos or more",
        ),
        (
            ["--false_alarms_per_100_videos", "10", "--live"],
            "--live has no effect with --false_alarms_per_100_videos",
        ),
        (
            ["--false_alarms_per_100_videos", "10", "--block", "60"],
            "--block has no effect with --false_alarms_per_100_videos",
        ),
        (
            ["--false_alarms_per_100_videos", "10", "--false_alarms_per_day", "1"],
            "pass one of them",
        ),
        (["--check_splits", "0"], "--check_splits is 0; expected 1 to 1000"),
        (["--check_splits", "-1"], "--check_splits is -1; expected 1 to 1000"),
        (["--check_splits", "1001"], "--check_splits is 1001; expected 1 to 1000"),
        (["--check_splits", "nan"], "invalid int value: 'nan'"),
        (["--check_splits", "all"], "invalid int value: 'all'"),
        (["--check_splits", ""], "invalid int value: ''"),
        (["--check_splits", "1.5"], "invalid int value: '1.5'"),
        (["--fps", "0"], "--fps is 0.0; expected frames per second"),
        (["--fps", "-1"], "--fps is -1.0; expected frames per second"),
        (["--fps", "nan"], "--fps is nan; expected frames per second"),
        (["--fps", "inf"], "--fps is inf; expected frames per second"),
        (["--fps", "1e-300"], "--fps is 1e-300; expected frames per second, 0.001 to"),
        (["--fps", "1e300"], "--fps is 1e+300; expected frames per second"),
        (["--fps", "30 fps"], "invalid float value: '30 fps'"),
        (["--fps", ""], "invalid float value: ''"),
        (["--normal", "nowhere"], "nowhere: no such file"),
        (["--normal", "{place}/empty"], "empty: "),
        (["--normal", ""], "--normal is empty; pass a name"),
        (["--normal", " "], "--normal is empty; pass a name"),
        (["--normal", "{place}/model"], "model: holds no video files"),
        (["--normal", "{place}/words.txt"], "error: "),
        (["--normal", "rtsp://camera/1"], "not a file; record it, and pass the"),
        (["--normal", "-"], "a stream, not a file"),
        (["--normal", "*.mp4"], "*.mp4: no such file"),
        (["--normal"], "expected at least one argument"),
        (["--output", ""], "--output is empty; expected a folder"),
        (["--output", "a\0b"], "names no folder"),
        (["--output", "{place}/words.txt"], "words.txt: can't be written"),
        (["--output", "{place}/words.txt/x"], "x: can't be written"),
        (["--output", "/proc/x"], "/proc/x: can't be written"),
        (["--output", "x" * 300], "can't be written"),
        (["--clip", ""], "--clip is empty; pass a name"),
        (["--clip", "nowhere"], "--clip has no effect with features"),
        (["--resize", "clip"], "--resize has no effect with features"),
        (["--resize", "crop"], "invalid choice: 'crop'"),
        (["--high", "0"], "--high is 0.0; expected more than 0, up to 1"),
        (["--high", "nan"], "--high is nan; expected more than 0, up to 1"),
        (["--low", "0.9"], "--low 0.9 is above --high 0.5"),
        (["--min_length", "-1"], "--min_length is -1.0; expected seconds"),
        (["--max_gap", "inf"], "--max_gap is inf; expected seconds"),
        (["--live", "x"], "unrecognized arguments: x"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--checkpoint", ""], "--checkpoint is empty; pass a name"),
        (["--checkpoint", "{place}/words.txt"], "words.txt: "),
        (["--checkpoint", "{place}/normal"], "normal: no model here"),
        (["--normal_words", "a street"], "--normal_words requires --classes"),
        (["--classes", "a fire"], "mil_ranking"),
        (["--classes", ""], "error: "),
        (["--live", "--rel_height", "0.5"], "--rel_height has no effect with --live"),
        (["--alarms", "3"], "did you mean --false_alarms_per_day?"),
    ],
)
def test_careless_words_get_one_sentence(place, tmp_path, capsys, words, message):
    words = [word.format(place=place) for word in words]
    found = refused(capsys, place, "--output", tmp_path / "new", *words)
    assert message in found
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--high", "0.7"], "--high has no effect with --calibration"),
        (["--force"], "--force has no effect with --calibration"),
        (["--calibration", ""], "--calibration is empty; expected a folder"),
        (["--calibration", "nowhere"], "nowhere: no calibration.json there"),
        (["--calibration", "{place}/words.txt"], "words.txt"),
        (["--calibration", "{place}/normal"], "normal: no calibration.json there"),
        (["--calibration", "{place}/model/meta.json"], "meta.json"),
        (["--calibration", "{place}/normal/0.npy"], "0.npy"),
        (["--calibration", "0.5"], "0.5: no calibration.json there"),
    ],
)
def test_careless_words_of_detect(place, tmp_path, capsys, words, message):
    inputs = [place / "normal", "--checkpoint", place / "model", "--calibration", "x"]
    words = [str(word).format(place=place) for word in [*inputs, *words]]
    with pytest.raises(SystemExit) as e:
        program.run(lambda: detect.main([*words, "--output", str(tmp_path / "new")]))
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.count("error: ") == 1 and message in err
    assert "Traceback" not in err and not (tmp_path / "new").exists()


def test_short_clips_need_no_hours_but_another_unit(place, tmp_path, capsys):
    clip = place / "normal" / "0.npy"
    np.save(tmp_path / "clip.npy", np.load(clip)[:4])
    words = ["--checkpoint", place / "model", "--normal", tmp_path / "clip.npy"]
    words += ["--fps", 30, "--false_alarms_per_day", 1, "--output", tmp_path / "out"]
    with pytest.raises(SystemExit):
        program.run(lambda: calibrate.main([str(word) for word in words]))
    told = capsys.readouterr().err
    assert "2 s of ordinary recordings are no block of 60 s" in told
    assert "pass --false_alarms_per_100_videos" in told
    assert not (tmp_path / "out").exists()
