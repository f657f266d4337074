"""Learns CLIP's byte-level BPE from captions."""

import collections
import json
from collections.abc import Iterable

from wsvad_jax.clip.random_snapshot import END, START, byte_characters


def learn_merges(captions: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Returns the `count` most frequent merges, most frequent first.

    `tokenizers` trains them as CLIP reads them: lower case, words apart, and a word's
    last symbol marked with "</w>".
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(byte_characters()) + count + 2,
        special_tokens=[START, END],
        initial_alphabet=byte_characters(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )

    # Sorted by frequency and text, so that equal captions give equal merges.
    counts = collections.Counter(captions)
    ordered = sorted(counts, key=lambda text: (-counts[text], text))
    tokenizer.train_from_iterator(
        (text for text in ordered for _ in range(counts[text])), trainer
    )

    found = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = (m.split(" ") if isinstance(m, str) else m for m in found)
    return [(first, second) for first, second in pairs][:count]
