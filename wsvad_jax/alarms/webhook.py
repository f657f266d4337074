"""Sends messages as HTTP POST with a JSON body; a status of 200 to 299 acknowledges."""

import base64
import http.client
import urllib.error
import urllib.request
from urllib.parse import quote, unquote

from wsvad_jax.alarms.sinks import (
    HIDDEN,
    TIMEOUT,
    Message,
    MessageRefusedError,
    NotDeliveredError,
    identity_of,
    split_address,
    without_secrets,
)

EXAMPLE = "https://example.org/alarms"
# The server is busy or starting; every other 4xx says that the request is wrong.
TEMPORARY = (408, 425, 429)
LONGEST_WAIT = 3600.0  # seconds of Retry-After that are waited for
SAFE = "/%:@!$&'()*+,;=~-._?[]"  # what an address may hold unquoted


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Reports a redirect: a POST that is redirected would become a GET."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Returns None, by which urllib raises the status as an error."""
        return


class Webhook:
    """A server that takes messages by POST."""

    flag = "--webhook"
    tries = None

    def __init__(self, address: str):
        """Reads the address.

        Args:
          address: http:// or https://, with user:password@ for basic authentication.

        Raises:
          InputError: not such an address.
        """
        parts = split_address(self.flag, address, ("http", "https"), EXAMPLE)
        host = (parts.hostname or "").encode("idna").decode()
        host = f"[{host}]" if ":" in host else host
        server = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")

        # Tokens stand in paths and queries, so neither is shown.
        path = quote(parts.path or "/", safe=SAFE)
        query = f"?{quote(parts.query, safe=SAFE)}" if parts.query else ""
        self.address = f"{server}{path}{query}"
        self.shown = f"{server}/{HIDDEN}" if path != "/" or query else f"{server}/"
        self.identity = identity_of("webhook", self.address)

        self.headers = {"Content-Type": "application/json", "User-Agent": "wsvad-jax"}
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user or password:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            self.headers["Authorization"] = f"Basic {pair}"
        self.secrets = (password, parts.path.strip("/"), path.strip("/"), parts.query)
        self.opener = urllib.request.build_opener(NoRedirect)

    def send(self, message: Message) -> None:
        """Posts a message, see `sinks.Sink.send`."""
        request = urllib.request.Request(
            self.address,
            message.body.encode(),
            {**self.headers, "Idempotency-Key": message.key},
            method="POST",
        )
        try:
            with self.opener.open(request, timeout=TIMEOUT):
                return
        except urllib.error.HTTPError as e:
            e.close()
            self._raise_for(e)
        except urllib.error.URLError as e:
            raise NotDeliveredError(self._reason(e.reason)) from None
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise NotDeliveredError(self._reason(e)) from None

    def close(self) -> None:
        """Has nothing to end: each message has a connection of its own."""

    def _raise_for(self, error: urllib.error.HTTPError) -> None:
        status = f"HTTP {error.code} {without_secrets(str(error.reason), self.secrets)}"
        if 300 <= error.code < 400:
            raise MessageRefusedError(
                f"{status.strip()}, a redirect; pass the address that it leads to"
            ) from None
        if 400 <= error.code < 500 and error.code not in TEMPORARY:
            raise MessageRefusedError(status.strip()) from None

        wait = error.headers.get("Retry-After", "") if error.headers else ""
        seconds = float(wait) if wait.isascii() and wait.isdecimal() else 0.0
        raise NotDeliveredError(status.strip(), min(seconds, LONGEST_WAIT)) from None

    def _reason(self, error: object) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {TIMEOUT:g} s"
        if isinstance(error, OSError) and error.strerror:
            return without_secrets(error.strerror.lower(), self.secrets)
        text = str(error) or type(error).__name__
        return without_secrets(text, self.secrets)
