"""Flags of the event rules, for the programs that find events."""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence

from wsvad_jax.evaluation import event_rules
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.utils.errors import InputError

RELATIVE = (*event_rules.RELATIVE_RULES, "share")  # rules relative to the usual level
ALL = (*(field.name for field in dataclasses.fields(EventRules)), "share")


def add_rule_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag per event rule; names and defaults are those of `EventRules`."""
    rules = parser.add_argument_group("what is an event")
    rule = functools.partial(rules.add_argument, type=float)
    rule("--high", default=EventRules.high, help="score of a peak (%(default)s)")
    rule("--low", help="score at which every event ends; default: by its peak")
    rule("--min_prominence", "--rise", default=EventRules.min_prominence, help="height "
         "of lower peaks above the video's usual level (%(default)s; 1 never)")  # fmt: skip
    rule("--rel_height", help="part of a peak's height above the usual level at which its "
         f"event ends, downwards from the peak ({EventRules.rel_height})")  # fmt: skip
    rule("--share", help="former flag: 1 - rel_height")
    rule("--min_length", default=EventRules.min_length, help="seconds of the shortest "
         "event (%(default)s)")  # fmt: skip
    rule("--max_gap", default=EventRules.max_gap, help="seconds between events that "
         "become one (%(default)s)")  # fmt: skip


def rules_of(known: argparse.Namespace, words: Sequence[str]) -> EventRules:
    """Returns the event rules that the flags name.

    Args:
      known: parsed arguments.
      words: command line; former flags are reported.

    Raises:
      InputError: a level out of range, a negative time, or a rule by both flags.
    """
    # --rel_height is None where it wasn't passed; `low` may be None.
    names = [field.name for field in dataclasses.fields(EventRules)]
    rules = {name: getattr(known, name) for name in names}
    if known.rel_height is None:
        del rules["rel_height"]

    # Former flags, in one line each; --rise has the same value as --min_prominence.
    if any(word.partition("=")[0] == "--rise" for word in words):
        warning = event_rules.old_name_warning("rise", known.min_prominence, "--")
        print(f"warning: {warning}", file=sys.stderr)
    if known.share is not None:
        if known.rel_height is not None:
            raise InputError("--share, --rel_height: pass --rel_height alone")
        rules["rel_height"] = event_rules.rel_height_from_share(known.share, "--")
        warning = event_rules.old_name_warning("share", rules["rel_height"], "--")
        print(f"warning: {warning}", file=sys.stderr)
    return EventRules.from_options(rules, prefix="--")
