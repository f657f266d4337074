"""Encodes queries with a CLIP model: words by its text tower, pictures by the other."""

import functools
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from wsvad_jax.clip.snapshot import Snapshot
from wsvad_jax.utils.errors import InputError, one_line, raise_if_unreadable

if TYPE_CHECKING:
    from wsvad_jax.extraction.extractor import Extractor


def check_text(text: str) -> str:
    """Returns a query's words without outer blanks; raises InputError without any."""
    if not text.strip():
        raise InputError(
            'the query is empty; pass the words to search for, as "a car on fire"'
        )
    return text.strip()


def encode_words(snapshot: Snapshot, text: str) -> Float32[np.ndarray, "D"]:
    """Returns the text feature of a query.

    Raises:
      InputError: no words, or more than the text tower reads.
    """
    from wsvad_jax.clip import prompts

    words = check_text(text)
    tokens, eos, _ = prompts.tokenize([[words]], snapshot.path, snapshot.text)

    # One length for all queries, so that the tower is compiled once. What follows the
    # end token has no effect, since the tower is causal.
    L = snapshot.text.max_position_embeddings
    padded = np.full((1, L), prompts.PADDING, tokens.dtype)
    padded[:, : tokens.shape[1]] = tokens

    params = {name: snapshot.params[name] for name in ("text_model", "text_projection")}
    return np.asarray(_text_encoder()(params, snapshot.text, padded, eos))[0]


@functools.cache
def _text_encoder() -> Any:
    """Returns the compiled text tower; its sizes are the second argument."""
    import jax

    from wsvad_jax.clip.towers import encode_text

    return jax.jit(encode_text, static_argnums=1)


def encode_picture(
    extractor: "Extractor", picture: UInt8[np.ndarray, "H W 3"]
) -> Float32[np.ndarray, "D"]:
    """Returns the feature of a picture's first crop, cut as the frames of videos."""
    return extractor.images(extractor.crop(picture)[:1])[0]


def read_picture(path: str | os.PathLike) -> UInt8[np.ndarray, "H W 3"]:
    """Reads a picture file as RGB, turned as its camera says.

    Raises:
      InputError: no such file, or not a whole picture.
    """
    from PIL import Image, ImageOps

    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a picture, such as a JPEG")
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as e:  # noqa: BLE001 damage can raise anything
        raise_if_unreadable(path, e)
        raise InputError(
            f"{path}: not a whole picture ({one_line(e, 100)}); expected one, such as a "
            "JPEG or PNG"
        ) from None
