"""Points huggingface_hub in this process at a hub of `hub_server`."""

import pathlib

import pytest
from hub_server import Hub
from huggingface_hub import constants


def use(
    patch: pytest.MonkeyPatch,
    hub: Hub | str,
    home: pathlib.Path,
    token: str = "hf_me",
    *,
    offline: bool = False,
) -> None:
    """Uses a hub, or an address, with a cache and a token of its own.

    The library reads most variables when it is imported, so its constants change.
    """
    address = hub if isinstance(hub, str) else hub.address
    patch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    patch.setattr(constants, "HF_HUB_OFFLINE", offline)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setenv("HF_TOKEN", token)
