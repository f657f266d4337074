"""Training notes: stored with a snapshot, kept in its towers' settings, said in one line."""

import json

import pytest

from wsvad_jax.clip import training_notes, weight_names
from wsvad_jax.clip.snapshot import load_snapshot, save_snapshot
from wsvad_jax.utils.errors import InputError

STREETS = "trained on rendered streets only; it knows nothing of real video"


def trained(snapshot, folder, towers=("vision_model", "text_model"), **options):
    """Saves a snapshot whose towers look trained, and loads it."""
    flat = {
        path: x + 0.01 if path.startswith(towers) and "layer_norm1" in path else x
        for path, x in weight_names.flatten(snapshot.params).items()
    }
    params = weight_names.unflatten(flat)
    save_snapshot(folder, snapshot.text, snapshot.vision, params, **options)
    return load_snapshot(folder)


def test_a_note_is_stored_and_kept(tmp_path, snapshot):
    found = trained(snapshot, tmp_path, training_note=STREETS)
    assert found.training_note == STREETS
    assert found.clip_note == (
        f"CLIP model of the features and prompts ({tmp_path.name}): {STREETS}"
    )
    assert found.image_settings["training_note"] == STREETS
    # The note changes no hash: the features are the same.
    plain = trained(snapshot, tmp_path / "plain")
    assert plain.clip_note is None and plain.training_note == ""
    assert plain.encoder("clip")[1] == found.encoder("clip")[1]
    assert plain.text_hash == found.text_hash


def test_the_weights_decide_what_is_random(tmp_path, snapshot):
    copied = trained(snapshot, tmp_path, ("text_model",), training_note=STREETS)
    random, note = training_notes.RANDOM_WEIGHTS, copied.clip_note or ""
    assert f"features ({tmp_path.name}): {random}" in note
    assert f"prompts: {STREETS}" in note
    assert "no meaning" not in note  # the text tower was trained


@pytest.mark.parametrize("written", ["a\nb", 3, "\x1b[31m"])
def test_a_note_is_one_printable_line(tmp_path, snapshot, written):
    trained(snapshot, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"training_note": written})
    )
    with pytest.raises(InputError, match=r"config.json: training_note must be"):
        load_snapshot(tmp_path)


def test_settings_of_a_file_are_not_trusted():
    for note in (None, 3, "a\nb"):
        assert training_notes.training_note("x@1", {"training_note": note}) == ""
    assert training_notes.training_note("x@1", "settings") == ""
    assert training_notes.clip_note() is None
    note = training_notes.clip_note(("a\nb\udcff@1", {"random": True})) or ""
    assert note.isprintable() and "a\\nb" in note
