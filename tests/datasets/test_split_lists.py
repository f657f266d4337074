"""Lists of a custom folder: what a line says, or which line can't be read."""

import pytest

from wsvad_jax.data import cards
from wsvad_jax.datasets import custom, split_lists
from wsvad_jax.utils.errors import InputError


def read(tmp_path, text, newline="\n"):
    path = tmp_path / "train.csv"
    path.write_text(text, encoding="utf-8", newline=newline)
    return [(row.video, row.labels) for row in split_lists.read_list(path)]


@pytest.mark.parametrize(
    "line",
    [
        'a,Fight', ' a , Fight ', 'a, "Fight"', '"a", "Fight"', '"a","Fight"',
        "a\u00a0,Fight\u00a0", "a.mp4,Fight", "a.npy,Fight", "A/../a,Fight",
    ],
)  # fmt: skip
def test_one_line(tmp_path, line):
    if ".." in line:
        with pytest.raises(InputError, match="a path out of the folder"):
            read(tmp_path, f"video,label\n{line}\n")
    else:
        assert read(tmp_path, f"video,label\n{line}\n") == [("a", ("Fight",))]


@pytest.mark.parametrize("header", ["video,label", "Video,Label", '"video", "label"'])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_headers_and_ends_of_lines(tmp_path, header, end):
    text = f"{header}\na,Fight\n\n,\nb,Normal"
    rows = read(tmp_path, text, newline=end)
    assert rows == [("a", ("Fight",)), ("b", ("Normal",))]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_header_tells_what_separates_fields(tmp_path, mark):
    text = f"video{mark}label\na{mark}Fight\n"
    assert read(tmp_path, text) == [("a", ("Fight",))]


def test_a_comma_in_a_quoted_name(tmp_path):
    rows = read(tmp_path, 'video,label\n"a,b", "Fight+Fire"\nc;d,Normal\n')
    assert rows == [("a,b", ("Fight", "Fire")), ("c;d", ("Normal",))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('a,"Fight', "train.csv:3: the quotes cannot be read"),
        ('"a,Fight', "train.csv:3: the quotes cannot be read"),
        ('"a"b,Fight', "train.csv:3: the quotes cannot be read"),
        ('"a" ,Fight', "train.csv:3: the quotes cannot be read"),
        ('a,Fi"ght"', "train.csv:3: the label .* holds '\"'"),
        ('a,"b,c"', "train.csv:3: the label 'b,c' holds ','; expected class names"),
        ("a,Fight;Fire", "train.csv:3: the label 'Fight;Fire' holds ';'"),
        ("a,\u201cFight\u201d", "train.csv:3: the label '\u201cFight\u201d' holds"),
        ("a;Fight", "train.csv:3: expected video,label, found 'a;Fight'"),
        ("a\tFight", "train.csv:3: expected video,label"),
        ("a,Fight,", "train.csv:3: expected video,label, found 'a,Fight,'"),
        ("a,Fight,x", "train.csv:3: expected video,label"),
        ("a", "train.csv:3: expected video,label, found 'a'"),
        ("# a,b", "train.csv:3: comments are not supported"),
        ("video,label", "train.csv:3: the header is repeated"),
        ("a\0b,Fight", "train.csv:3: holds the character '.x00'"),
    ],
)
def test_lines_that_are_refused(tmp_path, line, message):
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, f"video,label\nn,Normal\n{line}\nm,Normal\n")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header", ["label;video,", "Videos,label", "a,Fight", "video", "video label"]
)
def test_other_headers_are_refused(tmp_path, header):
    with pytest.raises(InputError, match="expected the header video,label in line 1"):
        read(tmp_path, f"{header}\na,Fight\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Normal", "normal"),
        ("Normal", "NORMAL"),
        ("Fight", "fight"),
        ("Car crash", "Carcrash"),
        ("Fight", "\uff26ight"),
    ],
)
def test_labels_written_in_two_ways(own, one, other):
    with pytest.raises(InputError, match="one class written in two ways") as error:
        cards.infer_card(["Normal", "Fire", one, other])
    assert repr(one) in str(error.value) and repr(other) in str(error.value)
    rows = [*own.rows["train"], ("x", one), ("y", other)]
    own.write_list("train", rows)
    with pytest.raises(InputError, match="one class written in two ways"):
        custom.load(own.path)


def test_one_spelling_of_normal_is_any(own):
    for split, rows in own.rows.items():
        own.write_list(split, [(v, label.lower()) for v, label in rows])
    own.write_truth([])
    (own.path / "test_segments.json").unlink()
    assert custom.load(own.path).card.class_names == ("normal", "fight", "fire")


def test_a_label_of_the_test_list_in_other_letters(own):
    own.write_list("test", [("tn", "normal"), *own.rows["test"][1:]])
    message = "test.csv:2: .* label 'normal' that no class has \\(did you mean 'Normal'"
    with pytest.raises(InputError, match=message):
        custom.load(own.path)


def test_a_class_of_the_truth_in_other_letters(own):
    own.write_truth([own.truth[0], own.truth[1], {
        "video": "tm", "segments": [[0, 9, "fight"], [20, 64, "Fire"]]
    }])  # fmt: skip
    with pytest.raises(InputError, match="'fight' .* \\(did you mean 'Fight'"):
        custom.load(own.path)
