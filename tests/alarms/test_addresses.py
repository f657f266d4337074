"""Addresses and commands of sinks: what is taken, refused, and never shown."""

import stat

import pytest

from wsvad_jax.alarms import sinks
from wsvad_jax.alarms.command import EventCommand
from wsvad_jax.alarms.mqtt import MqttTopic
from wsvad_jax.alarms.webhook import Webhook
from wsvad_jax.utils.errors import InputError

WRONG = {
    Webhook: (
        *("", "  ", "example.org/alarms", "ftp://u:geheim@h/x", "http://", "http:///x"),
        *(
            "http://h:99999/geheim",
            "http://h:x/geheim",
            "http://h:0/",
            "https://[::1/x",
        ),
        *("http://h/a geheim", "http://h/\n", "http://h/\0", "http://-é..é/geheim"),
        *("htp://u:geheim@h", "u:geheim@h", "file:///etc/passwd", "nan", "-1"),
    ),
    MqttTopic: (
        *("", "broker/topic", "mqtt://broker", "mqtt://broker/", "mqtt://u:geheim@/t"),
        *("mqtt://b/a/+", "mqtt://b/a/#", "mqtt://:geheim@b/t", "http://b/t"),
        *("mqtt://b:99999/t", "mqtt://b/t?geheim", "mqtt://b/%00", "mqtt://b/a b"),
        "mqtt://b/" + "t" * 70000,
    ),
    EventCommand: (
        *("", " ", "''", "'open", "no-such-program-here x", "/etc", "/etc/passwd"),
        *("cat | mail geheim", "cat > geheim", "true && true", "~/alarm.sh", "cat \0"),
        *("http://u:geheim@h/x", "x" * 5000),
    ),
}


@pytest.mark.parametrize(
    ("kind", "value"),
    [(kind, value) for kind, values in WRONG.items() for value in values],
)
def test_careless_values_get_one_sentence_without_a_secret(kind, value):
    with pytest.raises(InputError) as error:
        kind(value)
    text = str(error.value)
    assert text.startswith(kind.flag) and "\n" not in text and len(text) < 250
    assert "geheim" not in text


def test_addresses_are_shown_without_secrets():
    hook = Webhook("https://user:geheim@example.org:8443/T0/geheim?key=geheim#part")
    assert hook.shown == "https://example.org:8443/…"
    assert hook.address == "https://example.org:8443/T0/geheim?key=geheim"
    assert hook.headers["Authorization"].startswith("Basic ")
    topic = MqttTopic("mqtts://user:ge%20heim@broker/cameras/hall%20way")
    assert topic.shown == "mqtts://broker:8883/cameras/hall way"
    assert (topic.password, topic.tls) == ("ge heim", True)
    command = EventCommand("cat --token geheim")
    assert command.shown == "cat" and command.words[1:] == ["--token", "geheim"]


def test_a_changed_password_leaves_the_identity():
    """What waits in the outbox is delivered with the new one."""

    def same(kind, a, b):
        return kind(a).identity == kind(b).identity

    assert same(Webhook, "http://a:b@host/x", "http://a:c@host/x")
    assert not same(Webhook, "http://host/x", "http://host/y")
    assert same(MqttTopic, "mqtt://a:b@host/x", "mqtt://c:d@host:1883/x")
    assert not same(MqttTopic, "mqtt://host/x", "mqtts://host/x")


def test_international_addresses_are_encoded():
    hook = Webhook("http://bücher.example/größe/%C3%BC?a=ä")
    assert (
        hook.address == "http://xn--bcher-kva.example/gr%C3%B6%C3%9Fe/%C3%BC?a=%C3%A4"
    )
    assert Webhook("http://[::1]:80/").address == "http://[::1]:80/"


def test_no_text_of_a_library_shows_a_secret():
    text = sinks.without_secrets("bad\nURL /T0/ge%20heim and ge heim", ("ge heim", ""))
    assert text == "bad URL /T0/… and …"


def test_a_program_must_be_executable(tmp_path):
    script = tmp_path / "my alarm.sh"
    script.write_text("#!/bin/sh\ncat\n")
    with pytest.raises(InputError, match="no program that can be run"):
        EventCommand(f"'{script}'")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    assert EventCommand(f"'{script}' a 'b c'").words == [str(script), "a", "b c"]
