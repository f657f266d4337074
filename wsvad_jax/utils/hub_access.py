"""Names of models on the Hugging Face hub, and its answers in one sentence."""

import dataclasses
import os
import pathlib
import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from wsvad_jax.utils.errors import error_chain, full_disk_path, one_line

HUB_TIMEOUT = 15.0  # seconds in which the hub must answer
NAME_RULE = (
    "USER/NAME or USER/NAME@REVISION, of letters, digits, '-', '_' and '.', each part "
    "at most 96 characters"
)
# Beginning and end are letters, digits or underscores.
PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
NAME = re.compile(rf"(?P<repo>{PART}/{PART})(?:@(?P<revision>[^\s@~^:?*\[\\]+))?")
REFUSED = ("--", "..")  # the hub's rule
BUSY = (408, 429)  # statuses of a hub that has no time
LOCAL_STARTS = (".", "/", "~")
# Kinds of errors that say that nobody answered, by class name: httpx's and requests'.
NO_ANSWER = {
    "ConnectError", "ConnectTimeout", "ConnectionError", "LocalEntryNotFoundError",
    "NetworkError", "OfflineModeIsEnabled", "ProxyError", "ProtocolError", "ReadError",
    "ReadTimeout", "RemoteProtocolError", "Timeout", "TimeoutError",
    "TimeoutException", "TransportError", "WriteError",
}  # fmt: skip

Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True)
class HubName:
    """A model of the hub: USER/NAME, and a branch, tag or commit ("" is the default)."""

    repo: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def parse_hub_name(text: str | os.PathLike) -> HubName | None:
    """Returns the parts of USER/NAME[@REVISION]; None if the text can't be one."""
    match = NAME.fullmatch(os.fspath(text))
    if match is None or any(x in match["repo"] for x in REFUSED):
        return None
    if match["repo"].endswith(".git"):
        return None
    return HubName(match["repo"], match["revision"] or "")


def looks_remote(text: str | os.PathLike) -> bool:
    """Whether a text has the form of a hub name, valid or not, rather than of a path."""
    repo = os.fspath(text).partition("@")[0]
    return repo.count("/") == 1 and not repo.startswith(LOCAL_STARTS)


def ask(call: Callable[[], Answer], timeout: float = HUB_TIMEOUT) -> Answer:
    """Returns the result of a request to the hub.

    Args:
      call: sends the request.
      timeout: seconds; the hub's own limits don't cover the look-up of its address.

    Raises:
      Exception: that of `call`, or TimeoutError.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
            outcome.append((None, e))

    # A thread that may be left behind: looking up an address can't be interrupted.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)

    if not outcome:
        raise TimeoutError
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def is_no_answer(error: BaseException) -> bool:
    """Whether an error says that the hub gave no answer, rather than a refusal."""
    if full_disk_path(error) is not None:
        return False
    status = _status(error)
    if status is not None:
        return status >= 500 or status in BUSY
    return bool(_kinds(error) & NO_ANSWER)


def reason(error: BaseException, name: HubName) -> str:
    """Returns why the hub didn't do what was asked, as a clause without a full stop."""
    kinds, status = _kinds(error), _status(error)
    revision = name.revision or "main"

    # Before the numbers: the hub answers 401 for a model that doesn't exist, too.
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE is set; unset it to use the network"
    if "GatedRepoError" in kinds:
        return (
            f"access is granted on its page, {endpoint()}/{name.repo}, to your account"
        )
    if "RevisionNotFoundError" in kinds:
        return f"it has no revision {revision!r} (branch, tag or commit)"
    if "RepositoryNotFoundError" in kinds:
        return (
            f"the hub has no model of that name, or it is private and {_token_state()} "
            f"doesn't open it ({status or 404})"
        )
    if "DisabledRepoError" in kinds:
        return "the hub has disabled it"

    refusals = {
        401: f"the hub refuses {_token_state()} (401); log in again with `hf auth login`",
        403: f"{_token_state()} has no right to do that there (403)",
        409: "somebody else is changing it (409); run the same command again",
        412: "somebody else has changed it meanwhile (412); run the same command again",
        429: "the hub has had too many requests (429); try again later",
    }
    if status is not None:
        if status >= 500:
            return f"the hub has a fault ({status}); try again later"
        return refusals.get(status, f"the hub answered {status}: {_message(error)}")
    if kinds & NO_ANSWER:
        return f"{endpoint()} gives no answer; check the network"
    return one_line(error)


def endpoint() -> str:
    """Returns the address of the hub, of HF_ENDPOINT or the default."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def cached_folder(name: HubName) -> pathlib.Path:
    """Returns the folder of a model in the hub's cache, which may not exist."""
    from huggingface_hub import constants

    user, _, model = name.repo.partition("/")
    return pathlib.Path(constants.HF_HUB_CACHE) / f"models--{user}--{model}"


def _token_state() -> str:
    """Returns words for the user's token, without its value."""
    from huggingface_hub import get_token

    return (
        "the token of this account" if get_token() else "nobody's token (none is set)"
    )


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for e in error_chain(error) for kind in type(e).__mro__}


def _status(error: BaseException) -> int | None:
    """Returns the HTTP status that the hub answered with, if it did."""
    for e in error_chain(error):
        status = getattr(getattr(e, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _message(error: BaseException) -> str:
    """Returns the hub's own words."""
    for e in error_chain(error):
        if text := getattr(e, "server_message", None):
            return " ".join(str(text).split())[:200]
    return one_line(error)[:200]
