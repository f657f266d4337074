"""A webhook on this machine, and Debian's MQTT broker, for tests of alarms."""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest


class Hook:
    """A server that keeps what is posted to it; `answers` are its next statuses."""

    def __init__(self, port: int = 0, certificate: pathlib.Path | None = None) -> None:
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        self.away = False  # whether every answer is 503
        self.later: dict[str, str] = {}  # headers of every answer
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = hook.answers.pop(0) if hook.answers else 200
                status = 503 if hook.away else status
                hook.paths.append(self.path)
                if status < 300:
                    hook.headers.append(dict(self.headers))
                    hook.messages.append(json.loads(body))
                self.send_response(status)
                for name, value in hook.later.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        scheme = "http"
        if certificate is not None:
            context, scheme = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "https"
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            self.server.socket = context.wrap_socket(self.server.socket, True)
        self.address = f"{scheme}://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(
            target=self.server.serve_forever, args=(0.02,), daemon=True
        ).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def webhook(port: int = 0, certificate: pathlib.Path | None = None) -> Iterator[Hook]:
    """A running server, with a certificate by TLS."""
    hook = Hook(port, certificate)
    try:
        yield hook
    finally:
        hook.close()


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Broker:
    """A mosquitto with one user, who may not write to `closed/…`."""

    def __init__(self, folder: pathlib.Path, certificate: pathlib.Path | None = None):
        path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
        program, passwords = (
            shutil.which(name, path=path) for name in ("mosquitto", "mosquitto_passwd")
        )
        if program is None or passwords is None:
            pytest.skip("Debian's package mosquitto is not installed")
        self.port, self.program, self.folder = free_port(), program, folder
        folder.chmod(0o755)
        subprocess.run(
            [passwords, "-b", "-c", str(folder / "users"), "guard", "s3cret word"],
            check=True,
        )
        (folder / "users").chmod(0o644)
        (folder / "rights").write_text("user guard\ntopic readwrite alarms/#\n")
        (folder / "conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\n"
            f"password_file {folder}/users\nacl_file {folder}/rights\n"
            f"persistence false\nuser {os.environ.get('USER') or 'root'}\n"
        )
        if certificate is not None:
            with open(folder / "conf", "a") as conf:
                conf.write(f"certfile {certificate}\n")
                conf.write(f"keyfile {certificate.with_suffix('.key')}\n")
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.program, "-c", str(self.folder / "conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def answers() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            return False

        until(answers)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def address(self, topic: str, password: str = "s3cret%20word") -> str:
        return f"mqtt://guard:{password}@127.0.0.1:{self.port}/{topic}"

    @contextlib.contextmanager
    def subscribed(self, topic: str) -> Iterator[list[dict[str, Any]]]:
        """What arrives at a topic."""
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        messages, ready = [], threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set("guard", "s3cret word")
        client.on_connect = lambda *_: client.subscribe(topic, qos=1)
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = lambda _c, _d, m: messages.append(json.loads(m.payload))
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        assert ready.wait(10)
        try:
            yield messages
        finally:
            client.disconnect()
            client.loop_stop()


@contextlib.contextmanager
def broker(
    folder: pathlib.Path, certificate: pathlib.Path | None = None
) -> Iterator[Broker]:
    """A running broker; a skip where mosquitto isn't installed."""
    made = Broker(folder, certificate)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def certificate(folder: pathlib.Path) -> pathlib.Path:
    """A certificate of 127.0.0.1 that signs itself, its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes certificates, is not installed")
    path = folder / "own.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(path), "-keyout", str(path.with_suffix(".key"))),
        ],
        check=True,
        capture_output=True,
    )
    path.with_suffix(".key").chmod(0o644)
    return path


def until(happens: Callable[[], Any], seconds: float = 30.0) -> None:
    """Waits until something is so; fails if it isn't within that time."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
