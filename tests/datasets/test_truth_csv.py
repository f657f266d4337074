"""Events of test videos as a table, in seconds."""

import pytest

from wsvad_jax.datasets import custom_ground_truth
from wsvad_jax.utils.errors import InputError


def read(tmp_path, text):
    path = tmp_path / "test_segments.csv"
    path.write_text(text, encoding="utf-8")
    return custom_ground_truth.read_ground_truth(path)


def test_events_in_seconds(tmp_path):
    truth = read(
        tmp_path,
        "id;Video;start;END;label\n1;a/b.mp4;1:05;75.5;Fire\n2;c;0;2;Fight\n"
        "3;a/b;0:12.5;20;Fight\n4;d;1:00:01;3700;\n",
    )
    assert truth["a/b"].seconds == ((12.5, 20.0, "Fight"), (65.0, 75.5, "Fire"))
    assert truth["c"].unit == "seconds" and not truth["c"].events
    assert truth["d"].seconds == ((3601.0, 3700.0, ""),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "csv: expected the header video,start,end .* but it is empty"),
        ("video,start\na,1\n", "has no column end; its columns are video, start"),
        ("video,start,end,end\na,1,2,3\n", "names the column end 2 times"),
        ("video,start,end\na,1\n", "csv:2: expected video,start,end, found 'a,1'"),
        ("video,start,end\na,5,5\n", "from 5 to 5 has no length"),
        ("video,start,end\na,9,5\n", "from 9 to 5 has no length"),
        ("video,start,end\na,-1,5\n", "'-1' is no time; expected seconds"),
        ("video,start,end\na,nan,5\n", "'nan' is no time"),
        ("video,start,end\na,0,inf\n", "'inf' is no time"),
        ("video,start,end\na,,5\n", "'' is no time"),
        ("video,start,end\n,1,5\n", "the name of the video is missing"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_two_files_are_one_too_many(tmp_path):
    for name in custom_ground_truth.FILES:
        (tmp_path / name).write_text("[]")
    with pytest.raises(InputError, match="test_segments.csv as well; keep one"):
        custom_ground_truth.find_ground_truth(tmp_path)
