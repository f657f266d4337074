"""Faults of a custom folder, one function per fault."""

import numpy as np


def missing(own):
    own.feature("f0").unlink()


def empty(own):
    own.feature("f0").write_bytes(b"")


def no_npy(own):
    own.feature("f0").write_text("a text that is longer than a header")


def truncated(own):
    content = own.feature("f0").read_bytes()
    own.feature("f0").write_bytes(content[:-3])


def cut_header(own):
    own.feature("f0").write_bytes(own.feature("f0").read_bytes()[:40])


def wrong_width(own):
    own.write_features("f0", np.ones((4, 7), np.float32))


def integers(own):
    own.write_features("f0", np.ones((4, 6), np.int64))


def objects(own):
    np.save(own.feature("f0"), np.array([{"a": 1}], object), allow_pickle=True)


def complex_values(own):
    own.write_features("f0", np.ones((4, 6), np.complex64))


def one_axis(own):
    own.write_features("f0", np.ones(6, np.float32))


def no_snippets(own):
    own.write_features("f0", np.ones((0, 6), np.float32))


def crops_of_two_lengths(own):
    own.feature("f0").unlink()
    own.write_features("f0__0", np.ones((4, 6), np.float32))
    own.write_features("f0__1", np.ones((5, 6), np.float32))


def more_crops(own):
    own.feature("f0").unlink()
    own.write_features("f0__0", np.ones((4, 6), np.float32))
    own.write_features("f0__1", np.ones((4, 6), np.float32))


def crop_and_whole(own):
    own.write_features("f0__0", np.ones((4, 6), np.float32))


def first_crop_missing(own):
    own.feature("f0").rename(own.feature("f0__1"))


def with_value(value, dtype=np.float32):
    def bend(own):
        features = np.ones((4, 6), dtype)
        features[2, 3] = value
        own.write_features("f0", features)

    return bend


def unknown_label(own):
    own.write_card()
    own.write_list("train", [*own.rows["train"], ("x", "Riot")])


def label_of_test_only(own):
    own.write_list("test", [*own.rows["test"][:2], ("tm", "Fight+Riot")])


def normal_and_not(own):
    own.write_list("train", [("n0", "Normal"), ("f0", "Normal+Fire")])


def no_header(own):
    own.write_list("train", own.rows["train"], header=None)


def no_rows(own):
    own.write_list("train", [])


def empty_list(own):
    (own.path / "test.csv").write_text("")


def long_row(own):
    own.write_list("train", [("n0", "Normal", "more")])


def no_label(own):
    own.write_list("train", [("n0", "")])


def binary_list(own):
    (own.path / "train.csv").write_bytes(b"video,label\n\xff\xfe\n")


def twice(own):
    own.write_list("train", [*own.rows["train"], ("f0", "Fire")])


def in_both(own):
    own.write_list("test", [*own.rows["test"], ("f0", "Fire")])


def no_normal(own):
    own.write_card()
    own.write_list("train", [r for r in own.rows["train"] if r[1] != "Normal"])


def no_normal_without_card(own):
    own.write_list("train", [r for r in own.rows["train"] if r[1] != "Normal"])


def no_abnormal(own):
    own.write_card()
    own.write_list("train", own.rows["train"][:2])


def out_of_the_folder(own):
    own.write_list("train", [("../n0", "Normal")])


def no_list(own):
    (own.path / "test.csv").unlink()


def no_features(own):
    (own.path / "features").rename(own.path / "other")


def only_videos(own):
    (own.path / "features").rename(own.path / "videos")


def past_the_end(own):
    own.write_truth([*own.truth[:1], {"video": "tf", "segments": [[16, 65]]}])


def reversed_segment(own):
    own.write_truth([*own.truth[:1], {"video": "tf", "segments": [[32, 16]]}])


def unknown_video(own):
    own.write_truth([*own.truth, {"video": "zz", "segments": []}])


def truth_of_training_video(own):
    own.write_truth([*own.truth, {"video": "f0", "segments": [[0, 9]]}])


def no_truth_of_abnormal(own):
    own.write_truth(own.truth[:2])


def other_label(own):
    own.write_truth([{"video": "tf", "label": "Fight", "segments": [[0, 9]]}])


def several_labels_no_class(own):
    own.write_truth([*own.truth[:2], {"video": "tm", "segments": [[0, 9]]}])


def broken_truth(own):
    (own.path / "test_segments.json").write_text('[{"video": ')


def broken_card(own):
    (own.path / "card.json").write_text("{'name': 'x'}")


def card_without_normal(own):
    own.write_card(normal="Calm")


def crop_out_of_reach(own):
    own.write_card(test_crop=5)


def other_stride(own):
    own.write_card(stride=16)
    (own.path / "features" / "protocol.json").write_text('{"stride": 8}')


def bad_protocol(own):
    (own.path / "features" / "protocol.json").write_text('{"stride": "8"}')
