"""Publishes messages to an MQTT broker with quality of service 1.

The broker's PUBACK acknowledges a message. MQTT 5 is tried first, since only its PUBACK
says that a topic is forbidden; brokers without it get MQTT 3.1.1.
"""

import secrets
import threading
from typing import Any
from urllib.parse import unquote

from wsvad_jax.alarms.sinks import (
    TIMEOUT,
    Message,
    NotDeliveredError,
    identity_of,
    split_address,
    without_secrets,
)
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError

EXAMPLE = "mqtt://user:password@broker:1883/cameras/alarms"
PORTS = {"mqtt": 1883, "mqtts": 8883}
LONGEST_TOPIC = 65535  # bytes, a limit of the protocol
UNSUPPORTED_VERSION = "Unsupported protocol version"


class MqttTopic:
    """A topic of a broker."""

    flag = "--mqtt"
    tries = None

    def __init__(self, address: str):
        """Reads the address.

        Args:
          address: mqtt:// or mqtts:// (TLS), host and topic, with user:password@ if the
            broker wants them. Percent signs quote characters.

        Raises:
          InputError: not such an address, or paho-mqtt isn't installed.
        """
        parts = split_address(self.flag, address, tuple(PORTS), EXAMPLE)
        if parts.query or parts.fragment or "#" in address or "?" in address:
            raise InputError(
                f"{self.flag}: the address has a ? or #; a topic with wildcards can't be "
                f"published to, expected an address such as {EXAMPLE}"
            )

        # Wildcards are for subscribers: a message has one topic.
        topic = unquote(parts.path.removeprefix("/"))
        if not topic or "+" in topic or "#" in topic or "\0" in topic:
            found = f"the topic {topic!r:.60} has wildcards" if topic else "no topic"
            raise InputError(
                f"{self.flag}: {found} in the address; expected one such as {EXAMPLE}"
            )
        if len(topic.encode()) > LONGEST_TOPIC:
            raise InputError(
                f"{self.flag}: the topic is longer than {LONGEST_TOPIC} bytes; shorten it"
            )

        self.user, self.password = unquote(parts.username or ""), parts.password
        if self.password is not None:
            self.password = unquote(self.password)
            if not self.user:
                raise InputError(
                    f"{self.flag}: the address has a password and no user; expected one "
                    f"such as {EXAMPLE}"
                )

        # Missing software is found now, not at the first event.
        try:
            import paho.mqtt.enums  # noqa: F401
        except ImportError:
            raise InputError(
                f"{self.flag}: paho-mqtt 2 is not installed; {flags.install('mqtt')} (the "
                "extra mqtt)"
            ) from None

        self.tls, self.topic = parts.scheme == "mqtts", topic
        self.host = (parts.hostname or "").encode("idna").decode()
        self.port = parts.port or PORTS[parts.scheme]

        # Shown without user and password. A new password keeps the sink's messages.
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.shown = f"{parts.scheme}://{host}:{self.port}/{topic}"
        self.identity = identity_of("mqtt", self.shown)
        self.secrets = (self.password or "",)
        self.old_protocol = False
        self.client: Any = None

    def send(self, message: Message) -> None:
        """Publishes a message, see `sinks.Sink.send`."""
        try:
            if self.client is None or not self.client.is_connected():
                self.close()
                self._connect()
            self._publish(message)
        except NotDeliveredError:
            self.close()
            raise
        except (OSError, ValueError, RuntimeError) as e:
            self.close()
            text = getattr(e, "strerror", None) or str(e) or type(e).__name__
            if isinstance(e, TimeoutError):
                text = f"no answer within {TIMEOUT:g} s"
            raise NotDeliveredError(without_secrets(text, self.secrets)) from None

    def close(self) -> None:
        """Disconnects from the broker."""
        client, self.client = self.client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> None:
        """Connects by MQTT 5, or by 3.1.1 where the broker doesn't know 5."""
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        version = mqtt.MQTTv311 if self.old_protocol else mqtt.MQTTv5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            # A broker closes the older of two connections of one id.
            client_id=f"wsvad-{secrets.token_hex(6)}",
            protocol=version,
            reconnect_on_failure=False,
        )
        client.connect_timeout = TIMEOUT
        if self.user:
            client.username_pw_set(self.user, self.password)
        if self.tls:
            client.tls_set()

        answered, answers = threading.Event(), []

        def on_connect(_client, _data, _flags, reason, _properties) -> None:
            answers.append(reason)
            answered.set()

        client.on_connect = on_connect
        client.on_disconnect = lambda *_: answered.set()
        client.connect(self.host, self.port)
        client.loop_start()
        self.client = client

        if not answered.wait(TIMEOUT):
            raise NotDeliveredError(f"the broker didn't answer within {TIMEOUT:g} s")
        reason = str(answers[0]) if answers else "the broker closed the connection"
        if answers and not answers[0].is_failure:
            return
        self.close()

        # A broker without MQTT 5 says so, or closes the connection.
        if not self.old_protocol and (not answers or reason == UNSUPPORTED_VERSION):
            self.old_protocol = True
            self._connect()
            return
        self.old_protocol = False
        raise NotDeliveredError(f"the broker refused: {reason.lower()}")

    def _publish(self, message: Message) -> None:
        """Publishes and waits for the broker's answer to this message."""
        answered, answers, client = threading.Event(), {}, self.client

        def on_publish(_client, _data, number, reason, _properties) -> None:
            answers[number] = reason
            answered.set()

        client.on_publish = on_publish
        client.on_disconnect = lambda *_: answered.set()
        info = client.publish(self.topic, message.body, qos=1)
        if not answered.wait(TIMEOUT):
            raise NotDeliveredError(f"the broker didn't answer within {TIMEOUT:g} s")
        reason = answers.get(info.mid)
        if reason is None:
            raise NotDeliveredError("the connection to the broker was lost")

        # A forbidden topic may be allowed later, by the broker's settings.
        if reason.is_failure:
            raise NotDeliveredError(
                f"the broker refused the topic: {str(reason).lower()}"
            )
