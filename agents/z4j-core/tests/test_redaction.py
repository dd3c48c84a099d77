from __future__ import annotations

import time

import pytest
from z4j_core.errors import ConfigError
from z4j_core.redaction import Redactor

redact = Redactor()


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "DB_PASSWORD",
        "userPassword",
        "api-key",
        "apiKey",
        "X.Api.Key",
        "Authorization",
        "pin",
        "client_secret",
    ],
)
def test_a_secret_key_hides_its_value(key: str) -> None:
    assert redact.value({key: "hunter2", "other": 1}) == ({key: "[redacted:key]", "other": 1}, True)


@pytest.mark.parametrize("key", ["author", "shipping", "compass", "class_name", "monkey", "spinner"])
def test_an_ordinary_key_is_left_alone(key: str) -> None:
    assert redact.value({key: "hunter2"}) == ({key: "hunter2"}, False)


@pytest.mark.parametrize(
    ("text", "rule", "secret"),
    [
        ("token is eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN now", "jwt", "dozjgNryP4J3jVmN"),
        ("see -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- now", "pem", "MIIE"),
        ("see -----BEGIN PRIVATE KEY-----\nMIIE never closed", "pem", "MIIE"),
        ("key AKIAIOSFODNN7EXAMPLE now", "aws", "AKIAIOSFODNN7EXAMPLE"),
        ("key sk_live_4eC39HqLyjWDarjtT1zdp7dc now", "token", "4eC39HqLyjWDarjtT1zdp7dc"),
        ("key ghp_16C7e42F292c6912E7710c838347Ae178B4a now", "token", "16C7e42F292c6912"),
        ("key xoxb-123456789012-abcdefghij now", "token", "abcdefghij"),
        ("open postgres://bob:hunter2@db:5432/x now", "url", "hunter2"),
        ("header Bearer abcdefghijklmnop1234 now", "bearer", "abcdefghijklmnop1234"),
        ("card 4111 1111 1111 1111 now", "card", "1111 1111"),
        ("connect(password='hunter2x') now", "assignment", "hunter2x"),
    ],
)
def test_only_the_secret_span_is_replaced(text: str, rule: str, secret: str) -> None:
    clean, hit = redact.text(text)
    assert hit
    assert secret not in clean
    assert f"[redacted:{rule}]" in clean
    assert clean.startswith(text[:3])
    assert rule == "pem" or clean.endswith(" now")


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112 shipped",
        "the bearer of this message is welcome",
        "https://example.com:8080/path@2x.png",
        "task 7f2c1c3e-9a53-4e0b-8f6f-0a3a9a1d2b3c failed",
        "token = get_token(request)",
        "1700000000000 milliseconds",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact.text(text) == (text, False)


def test_nested_json_keeps_its_shape_and_the_rest_of_its_values() -> None:
    value = {"a": [{"password": "x", "n": 1}, ["sk_live_4eC39HqLyjWDarjtT1zdp7dc"]], "b": None, "flag": True}
    clean, hit = redact.value(value)
    assert hit
    assert clean == {"a": [{"password": "[redacted:key]", "n": 1}, ["[redacted:token]"]], "b": None, "flag": True}


def test_empty_secrets_are_not_redacted() -> None:
    assert redact.value({"password": "", "token": None})[1] is False


def test_a_card_number_given_as_a_number_is_hidden() -> None:
    assert redact.value([4111111111111111]) == (["[redacted:card]"], True)


def test_further_patterns_are_applied() -> None:
    extra = Redactor(extra_key_patterns=["Customer_No"], extra_value_patterns=[r"ACME-\d+"])
    assert extra.value({"customerno": "17", "text": "about ACME-123 today"}) == (
        {"customerno": "[redacted:key]", "text": "about [redacted:custom] today"},
        True,
    )


def test_a_wrong_pattern_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\(x"):
        Redactor(extra_value_patterns=["(x"])


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ",
        "eyJabcdefgh.",
        "4",
        "4 ",
        "://a",
        "://a:b",
        "Bearer ",
        "-----BEGIN PRIVATE KEY-----",
        "password=",
        "sk_",
        "A",
    ],
)
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.perf_counter()
    redact.text(text)
    assert time.perf_counter() - began < 2.0
