"""Flags of the sinks, for programs that find events."""

import argparse
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.alarms.alarms import Alarms


def add_alarm_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag per kind of sink, and the one of the outbox."""
    alarms = parser.add_argument_group(
        "where events are sent, each flag any number of times"
    )
    add = alarms.add_argument
    add("--on_event", action="append", metavar="CMD", help="program that gets each event "
        "as JSON on standard input, without a shell")  # fmt: skip
    add("--webhook", action="append", metavar="URL", help="server that gets each event as "
        "JSON by POST")  # fmt: skip
    add("--mqtt", action="append", metavar="URL", help="mqtt://user:password@host/topic, "
        "or mqtts://; needs the extra mqtt")  # fmt: skip
    add("--outbox", metavar="DIR", help="where events wait for their sinks, once; default: "
        "OUTPUT/outbox, of --live ~/.local/state/wsvad_jax/outbox")  # fmt: skip


def alarms_of(
    known: argparse.Namespace, output: pathlib.Path | None = None
) -> "Alarms":
    """Returns the alarms that the flags name; without sinks they do nothing.

    Args:
      known: parsed arguments.
      output: folder in which the outbox is without --outbox; None: the user's state
        folder.

    Raises:
      InputError: an address or command that can't be used, one that is given twice, or
        an outbox without a sink.
    """
    from wsvad_jax.alarms.alarms import Alarms
    from wsvad_jax.alarms.command import EventCommand
    from wsvad_jax.alarms.mqtt import MqttTopic
    from wsvad_jax.alarms.outbox import Outbox
    from wsvad_jax.alarms.webhook import Webhook

    kinds = {"on_event": EventCommand, "webhook": Webhook, "mqtt": MqttTopic}
    sinks = [
        kind(value)
        for name, kind in kinds.items()
        for value in getattr(known, name) or ()
    ]

    # A sink that is given twice would get each event twice.
    seen: Mapping[str, object] = {}
    for sink in sinks:
        if sink.identity in seen:
            raise InputError(f"{sink.flag} {sink.shown}: given twice; leave one out")
        seen = {**seen, sink.identity: sink}

    if known.outbox is not None and not known.outbox.strip(" \0"):
        raise InputError("--outbox is empty; expected a folder")
    if "://" in (known.outbox or ""):
        raise InputError("--outbox is an address; expected a folder on this machine")
    if not sinks:
        if known.outbox is not None:
            raise InputError(
                f"--outbox {known.outbox} has no effect without a sink; pass --on_event, "
                "--webhook or --mqtt, too, or leave it out"
            )
        return Alarms()

    # The outbox survives a run; --output holds the results of one.
    own = os.path.abspath(known.outbox) if known.outbox else ""
    if output is not None and own == os.path.abspath(output):
        raise InputError(
            f"--outbox {known.outbox}: is the folder of --output; choose another, or "
            "leave it out"
        )
    folder = pathlib.Path(known.outbox or (output or state_folder()) / "outbox")
    return Alarms(Outbox(folder), sinks)


def state_folder() -> pathlib.Path:
    """Returns the folder for data that a user keeps between runs.

    `$XDG_STATE_HOME/wsvad_jax`, else `~/.local/state/wsvad_jax`.
    """
    base = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local/state"
    return pathlib.Path(base) / "wsvad_jax"
