"""What a sink is: it takes one message at a time, and says whether it has it."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable
from urllib.parse import SplitResult, quote, urlsplit

from wsvad_jax.utils.errors import InputError, printable

TIMEOUT = 10.0  # seconds of silence after which a sink counts as not answering
HIDDEN = "…"


class NotDeliveredError(Exception):
    """A message that the sink doesn't have; it is sent again after a pause."""

    def __init__(self, reason: str, wait: float = 0.0):
        """Stores the reason, and the seconds that the sink asked to wait."""
        super().__init__(reason)
        self.wait = wait


class MessageRefusedError(Exception):
    """A message that the sink will never take; it is set aside."""


@dataclasses.dataclass(frozen=True)
class Message:
    """A change of an event, as sinks get it."""

    key: str  # message_id of the body: equal in every copy of one message
    body: str  # one line of JSON in ASCII

    @classmethod
    def of(cls, value: dict[str, Any]) -> "Message":
        """Returns the message of a JSON object with a `message_id`."""
        # ASCII, since names of files may hold what no encoding has.
        return cls(value["message_id"], json.dumps(value, ensure_ascii=True))


@runtime_checkable
class Sink(Protocol):
    """A place that messages are sent to."""

    flag: str  # with hyphens, for messages
    shown: str  # the address without secrets
    identity: str  # of the address in the outbox
    tries: int | None  # times that a message is sent before it is set aside; None: ever

    def send(self, message: Message) -> None:
        """Sends a message; returns when the sink has acknowledged it.

        Raises:
          NotDeliveredError: it didn't, and may later.
          MessageRefusedError: it never will.
        """
        ...

    def close(self) -> None:
        """Ends what the sink keeps open, from any thread."""
        ...


def identity_of(*parts: str) -> str:
    """Returns a hash of a sink's address, by which the outbox knows it again."""
    text = json.dumps(parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Returns a text in one line in which no secret can be read.

    Args:
      text: text that another library made, perhaps from an address.
      secrets: parts of the address that must not be printed.
    """
    # One or two letters say nothing, and stand in every word.
    long = (secret for secret in secrets if len(secret) > 2)
    for secret in sorted(long, key=len, reverse=True):
        for form in (secret, quote(secret), quote(secret, safe="")):
            text = text.replace(form, HIDDEN)
    return printable(" ".join(text.split()))[:300]


def split_address(
    flag: str, address: str, schemes: tuple[str, ...], example: str
) -> SplitResult:
    """Returns the parts of an address.

    Args:
      flag: flag that the address was passed with.
      address: address.
      schemes: possible schemes.
      example: address of the expected form.

    Raises:
      InputError: another scheme, no host, or a port out of range. The message doesn't
        quote the address, which may hold a password.
    """
    wanted = f"expected an address such as {example}"
    if not address.strip():
        raise InputError(f"{flag} is empty; {wanted}")
    if address != address.strip() or not address.isprintable() or " " in address:
        raise InputError(
            f"{flag}: the address holds a space or a control sign; {wanted}"
        )

    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname
    except ValueError as e:
        why = "the port is no number up to 65535" if "ort" in str(e) else "no host"
        raise InputError(f"{flag}: {why} in the address; {wanted}") from None

    # What stands before :// is no secret, unless there is no ://.
    scheme = parts.scheme if "://" in address else ""
    if scheme not in schemes:
        found = (
            f"the address begins with {scheme}://"
            if scheme
            else "the address has no scheme"
        )
        raise InputError(f"{flag}: {found}; {wanted}")
    if not host or port == 0:
        raise InputError(
            f"{flag}: the address has no {'port' if host else 'host'}; {wanted}"
        )
    try:
        host.encode("idna")
    except UnicodeError:
        raise InputError(f"{flag}: {host:.60} is no name of a host; {wanted}") from None
    return parts
