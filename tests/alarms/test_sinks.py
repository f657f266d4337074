"""Each sink against a real server, broker or program: acknowledged, later, or never."""

import json
import shlex
import sys

import pytest
from alarm_servers import (
    broker,
    certificate,
    free_port,
    silent_server,
    until,
    webhook,
)

from wsvad_jax.alarms import command as commands
from wsvad_jax.alarms import mqtt
from wsvad_jax.alarms import webhook as webhooks
from wsvad_jax.alarms.command import EventCommand
from wsvad_jax.alarms.mqtt import MqttTopic
from wsvad_jax.alarms.sinks import Message, MessageRefusedError, NotDeliveredError
from wsvad_jax.alarms.webhook import Webhook
from wsvad_jax.utils.errors import InputError

VALUE = {"message_id": "e1-opened", "id": "e1", "source": "größe \udcff"}
MESSAGE = Message.of(VALUE)


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory):
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


def test_a_webhook_gets_json_with_its_key_and_authorization():
    with webhook() as hook:
        address = hook.address.replace("//", "//user:pass%20word@") + "?token=a+b"
        Webhook(address).send(MESSAGE)
    assert hook.messages == [VALUE] and hook.paths == ["/hook?token=a+b"]
    (headers,) = hook.headers
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == "e1-opened"
    assert headers["Authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_busy_server_is_asked_again(status):
    with webhook() as hook:
        hook.answers, hook.later = [status], {"Retry-After": "7"}
        with pytest.raises(NotDeliveredError, match=f"HTTP {status}") as error:
            Webhook(hook.address).send(MESSAGE)
    assert error.value.wait == 7.0 and not hook.messages


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301, 307])
def test_a_refusal_is_for_good(status):
    with webhook() as hook:
        hook.answers, hook.later = [status], {"Location": hook.address}
        with pytest.raises(MessageRefusedError, match=f"HTTP {status}"):
            Webhook(hook.address).send(MESSAGE)
    assert not hook.messages and len(hook.paths) == 1  # no redirect is followed


def test_servers_that_are_away_or_silent(monkeypatch):
    monkeypatch.setattr(webhooks, "TIMEOUT", 0.3)
    with pytest.raises(NotDeliveredError, match="connection refused"):
        Webhook(f"http://127.0.0.1:{free_port()}/geheim").send(MESSAGE)
    silent = pytest.raises(NotDeliveredError, match="no answer within 0.3 s")
    with silent_server() as server, silent:
        Webhook(f"http://{server}/geheim").send(MESSAGE)
    with pytest.raises(NotDeliveredError) as error:
        Webhook("http://no-such-host.invalid/geheim").send(MESSAGE)
    assert "geheim" not in str(error.value)


def program(script: str) -> EventCommand:
    return EventCommand(shlex.join([sys.executable, "-c", script]))


def test_a_program_gets_the_message_on_standard_input(tmp_path, capfd):
    target = tmp_path / "it's $HOME.json"
    script = (
        f"import sys; print('seen'); open({str(target)!r}, 'w').write(sys.stdin.read())"
    )
    program(script).send(MESSAGE)
    assert json.loads(target.read_text()) == VALUE
    out, err = capfd.readouterr()
    assert not out and "seen" in err  # standard output is for lines of JSON


def test_a_program_that_fails_is_started_again_later(monkeypatch):
    monkeypatch.setattr(commands, "LONGEST", 0.5)
    for script, reason in (
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("import time; time.sleep(60)", "no end within 0.5 s"),
    ):
        with pytest.raises(NotDeliveredError, match=reason):
            program(script).send(MESSAGE)
    program("").send(MESSAGE)  # it need not read its input


def test_a_program_that_is_gone(tmp_path):
    path = tmp_path / "alarm"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    command = EventCommand(str(path))
    path.unlink()
    with pytest.raises(NotDeliveredError, match="can't be started"):
        command.send(MESSAGE)


def test_a_broker_gets_messages_over_one_connection(mosquitto):
    with mosquitto.subscribed("alarms/#") as messages:
        topic = MqttTopic(mosquitto.address("alarms/hall%20way"))
        topic.send(MESSAGE)
        client = topic.client
        topic.send(MESSAGE)
        assert topic.client is client
        until(lambda: len(messages) == 2)
        topic.close()
    assert messages == [VALUE, VALUE]


def test_a_broker_that_refuses_says_why(mosquitto):
    with pytest.raises(NotDeliveredError, match="not authorized") as error:
        MqttTopic(mosquitto.address("alarms/x", "geheim")).send(MESSAGE)
    assert "geheim" not in str(error.value)
    # MQTT 3.1.1 would acknowledge this and drop it.
    with pytest.raises(NotDeliveredError, match="refused the topic: not authorized"):
        MqttTopic(mosquitto.address("forbidden/x")).send(MESSAGE)


def test_a_broker_that_goes_and_comes_back(tmp_path):
    with broker(tmp_path) as running:
        topic = MqttTopic(running.address("alarms/x"))
        topic.send(MESSAGE)
        running.stop()
        for _ in range(2):
            with pytest.raises(NotDeliveredError):
                topic.send(MESSAGE)
        running.start()
        with running.subscribed("alarms/x") as messages:
            topic.send(MESSAGE)
            until(lambda: messages)
        topic.close()


def test_brokers_that_are_silent_or_speak_the_old_protocol(mosquitto, monkeypatch):
    monkeypatch.setattr(mqtt, "TIMEOUT", 0.5)
    silent = pytest.raises(NotDeliveredError, match="didn't answer within 0.5 s")
    with silent_server() as server, silent:
        MqttTopic(f"mqtt://{server}/t").send(MESSAGE)
    monkeypatch.setattr(mqtt, "TIMEOUT", 10.0)
    topic = MqttTopic(mosquitto.address("alarms/old"))
    topic.old_protocol = True
    with mosquitto.subscribed("alarms/old") as messages:
        topic.send(MESSAGE)
        until(lambda: messages)
    topic.close()


def test_mqtt_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.enums", None)
    with pytest.raises(InputError, match="pip install paho-mqtt"):
        MqttTopic("mqtt://broker/topic")


def test_certificates_are_checked(tmp_path, monkeypatch):
    path = certificate(tmp_path)
    with webhook(certificate=path) as hook, broker(tmp_path, path) as running:
        address = running.address("alarms/x").replace("mqtt://", "mqtts://")
        for kind, where in ((Webhook, hook.address), (MqttTopic, address)):
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
            with pytest.raises(NotDeliveredError, match="certificate"):
                kind(where).send(MESSAGE)
            monkeypatch.setenv("SSL_CERT_FILE", str(path))
            kind(where).send(MESSAGE)
    assert hook.messages == [VALUE]
