from __future__ import annotations

import pytest
from z4j_bare.config import AgentConfig, examine, resolve, shown_url, socket_url
from z4j_core.errors import ConfigError
from z4j_core.policy import Policy
from z4j_core.signing import derive_secret, secret_text

BASE = {"brain_url": "https://brain.example", "token": "t0ken-value"}


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://b.example", "wss://b.example/ws/agent"),
        ("http://localhost:7700/", "ws://localhost:7700/ws/agent"),
        ("wss://b.example/ws", "wss://b.example/ws/agent"),
        ("wss://b.example/ws/agent", "wss://b.example/ws/agent"),
        ("https://b.example/z4j", "wss://b.example/z4j/ws/agent"),
    ],
)
def test_the_socket_s_url_is_made_from_any_form(given: str, url: str) -> None:
    assert socket_url(given) == url


def test_keyword_wins_over_environment_over_settings_over_default() -> None:
    environ = {"Z4J_PROJECT_ID": "env", "Z4J_ENVIRONMENT": "env"}
    settings = {"project_id": "set", "environment": "set", "release": "set"}
    config = resolve({**BASE, "project_id": "kw"}, settings, environ)
    assert (config.project_id, config.environment, config.release, config.agent_name) == ("kw", "env", "set", "")


def test_the_environment_s_texts_are_converted() -> None:
    config = resolve(
        {},
        {},
        {
            "Z4J_BRAIN_URL": "http://127.0.0.1:1",
            "Z4J_TOKEN": "t",
            "Z4J_TAGS": "team=mail, tier=1",
            "Z4J_DEV_MODE": "yes",
            "Z4J_BUFFER_SIZE": "10",
            "Z4J_REDACTION_EXTRA_KEY_PATTERNS": '["a", "b"]',
        },
    )
    assert config.tags == {"team": "mail", "tier": "1"}
    assert (config.dev_mode, config.buffer_size) == (True, 10)
    assert config.redaction_extra_key_patterns == ("a", "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "brain_url is missing.*token is missing"),
        ({**BASE, "tokn": "x"}, "'tokn' is not an option, did you mean 'token'"),
        ({**BASE, "buffer_size": "many"}, "buffer_size"),
        ({**BASE, "heartbeat_interval": -1}, "heartbeat_interval: must be greater than 0"),
        ({**BASE, "brain_url": "ftp://x"}, "brain_url must look like"),
        ({**BASE, "brain_url": "127.0.0.1:7811"}, "write http:// or https:// in front"),
        ({**BASE, "brain_url": "https://[x"}, "brain_url is not a URL"),
        ({**BASE, "brain_url": "https://b.example:port"}, "brain_url is not a URL"),
        ({**BASE, "buffer_size": float("inf")}, "buffer_size"),
        ({**BASE, "tokn": 1, "buffer_size": "lots", "transport": "pigeon"}, "tokn.*buffer_size.*pigeon"),
        ({**BASE, "brain_url": "http://brain.example"}, "not encrypted"),
        ({**BASE, "transport": "longpoll"}, "longpoll"),
        ({**BASE, "transport": "pigeon"}, "pigeon"),
        ({**BASE, "hmac_secret": "not base64!"}, "hmac_secret"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(options, {}, {})


def test_an_agent_nobody_asked_for_is_told_from_a_half_configured_one() -> None:
    assert examine({}, {"brain_url": "", "token": None}, {})[1].unused
    assert not examine({}, {"brain_url": "https://b.example"}, {})[1].unused
    assert not examine({}, {"tokn": "x"}, {})[1].unused
    assert not examine(BASE, {}, {})[1].unused


def test_plain_connections_need_loopback_or_dev_mode() -> None:
    assert resolve({**BASE, "brain_url": "http://[::1]:1"}, {}, {}).url.startswith("ws://")
    assert resolve({**BASE, "brain_url": "ws://brain.example", "dev_mode": True}, {}, {}).url.startswith("ws://")


def test_the_secret_is_derived_from_the_token_unless_given() -> None:
    assert resolve(BASE, {}, {}).secret == derive_secret("t0ken-value")
    assert resolve({**BASE, "hmac_secret": secret_text(b"k" * 32)}, {}, {}).secret == b"k" * 32


def test_secrets_are_not_shown() -> None:
    config = AgentConfig(brain_url="https://b.example", token="t0ken-x", hmac_secret="s3cret-x")
    assert "t0ken" not in repr(config) and "s3cret" not in repr(config)
    assert shown_url("wss://user:pw@b.example/ws/agent?x=1") == "wss://b.example/ws/agent"


def test_the_policy_comes_from_every_source_and_lists_in_every_form() -> None:
    environ = {
        "Z4J_POLICY": " Full ",
        "Z4J_POLICY_DENY_TASKS": "billing.*, payroll.* ,",
        "Z4J_POLICY_DENY_QUEUES": '["a"]',
    }
    rules = resolve({**BASE, "policy_allow_tasks": ["shop.*"]}, {"policy_allow_queues": []}, environ).rules
    assert (rules.mode, rules.deny_tasks, rules.deny_queues) == ("full", ("billing.*", "payroll.*"), ("a",))
    assert (rules.allow_tasks, rules.allow_queues, rules.allow_actions) == (("shop.*",), (), None)
    assert resolve(BASE, {}, {}).rules == Policy()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "observ"}, "policy 'observ' is not known"),
        ({"policy_deny_actions": "retry_tsk"}, "there is no action 'retry_tsk', did you mean 'retry_task'"),
        ({"policy_deny_tasks": 5}, "policy_deny_tasks: must be a list of texts"),
    ],
)
def test_a_policy_that_cannot_be_meant_starts_no_agent(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve({**BASE, **options}, {}, {})
