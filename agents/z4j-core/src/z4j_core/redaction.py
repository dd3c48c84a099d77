"""Redaction: takes secrets out of arguments, results and error texts before they leave the host.

Two rules, by the name of a key and by the look of a value. Only the matching span is replaced, so that what is left
of a message stays readable. Every pattern is linear in the length of its text: starts are anchored, repeats bounded
or possessive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from z4j_core import limits
from z4j_core.errors import ConfigError

#: Parts of key names (casefolded, without separators) whose value is a secret.
SECRET_KEYS: tuple[str, ...] = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "authorization",
    "credential",
    "sessionid",
    "cookie",
    "cardnumber",
    "creditcard",
    "socialsecurity",
)
#: Key names that are too short to be looked for inside other words.
SECRET_WORDS: frozenset[str] = frozenset({"auth", "pwd", "pass", "pin", "cvv", "cvc", "ssn", "otp", "iban"})

_SEPARATORS = re.compile(r"[\s_.\-]+")
_MIN_TEXT = 8
_MAX_DEPTH = limits.MAX_DEPTH

_Replace = Callable[[re.Match[str]], str]


def marker(rule: str) -> str:
    """Return what stands in the place of a redacted span."""
    return f"[redacted:{rule}]"


def _whole(rule: str) -> _Replace:
    return lambda match: marker(rule)


def _after_prefix(rule: str) -> _Replace:
    return lambda match: match.group(1) + marker(rule)


def _card(match: re.Match[str]) -> str:
    digits = [int(char) for char in match.group() if char.isdigit()]
    doubled = (sum(divmod(digit * 2, 10)) for digit in digits[-2::-2])
    return match.group() if (sum(digits[::-2]) + sum(doubled)) % 10 else marker("card")


_RULES: tuple[tuple[str, re.Pattern[str], _Replace], ...] = (
    (
        "-----BEGIN",
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        _whole("pem"),
    ),
    ("eyJ", re.compile(r"(?<![\w.-])eyJ[\w-]{6,}+\.[\w-]{4,}+(?:\.[\w-]*+)?", re.A), _whole("jwt")),
    ("", re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"), _whole("aws")),
    (
        "",
        re.compile(
            r"(?<![A-Za-z0-9])(?:[srp]k_(?:live_|test_)?[A-Za-z0-9]{12,}+|sk-[A-Za-z0-9_-]{20,}+"
            r"|gh[pousr]_[A-Za-z0-9]{16,}+|github_pat_[A-Za-z0-9_]{16,}+|glpat-[A-Za-z0-9_-]{16,}+"
            r"|xox[a-z]-[A-Za-z0-9-]{8,}+|z4j_agent_[A-Za-z0-9_-]{16,}+)"
        ),
        _whole("token"),
    ),
    ("://", re.compile(r"(?<=://)([^\s/?#@:]{0,256}:)[^\s/?#]{1,512}(?=@)"), _after_prefix("url")),
    ("earer", re.compile(r"(?<![A-Za-z])([Bb]earer\s{1,8})[\w.~+/=-]{12,}+"), _after_prefix("bearer")),
    (
        "",
        re.compile(
            r"((?:password|passwd|passphrase|secret|api_?key|access_?key|(?:access|refresh|auth|id)_token)"
            r"['\"]?\s{0,4}[=:]\s{0,4}['\"]?)(?!\[redacted)(?![\w.]{1,80}\()[^\s'\",;&(){}\[\]]{1,256}",
            re.I,
        ),
        _after_prefix("assignment"),
    ),
    ("", re.compile(r"(?<![\w.])[3-6](?:[ -]?\d){12,18}(?![\w])"), _card),
)


class Redactor:
    """Applies the rules to text and to JSON values.

    ``extra_key_patterns`` are further parts of key names; ``extra_value_patterns`` are regular expressions whose
    match is replaced. A pattern that does not compile raises :class:`ConfigError`.
    """

    def __init__(self, extra_key_patterns: Iterable[str] = (), extra_value_patterns: Iterable[str] = ()) -> None:
        self._keys = SECRET_KEYS + tuple(folded for key in extra_key_patterns if (folded := _fold(key)))
        self._rules = _RULES
        for pattern in extra_value_patterns:
            try:
                self._rules += (("", re.compile(pattern), _whole("custom")),)
            except re.error as error:
                raise ConfigError(f"redaction pattern {pattern!r} is not a regular expression: {error}") from error

    def is_secret_key(self, key: str) -> bool:
        """Tell whether the value under this key is replaced whatever it looks like."""
        folded = _fold(key)
        return folded in SECRET_WORDS or any(part in folded for part in self._keys)

    def text(self, text: str) -> tuple[str, bool]:
        """Return the text without its secrets, and whether there were any."""
        if len(text) < _MIN_TEXT:
            return text, False
        clean = text
        for needle, pattern, replace in self._rules:
            if needle in clean:
                clean = pattern.sub(replace, clean)
        return clean, clean != text

    def value(self, value: Any) -> tuple[Any, bool]:
        """Return a copy of a JSON value without its secrets, and whether there were any."""
        return self._value(value, 0)

    def _value(self, value: Any, depth: int) -> tuple[Any, bool]:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 10**12:
            clean, hit = self.text(str(value))
            return (clean, True) if hit else (value, False)
        if not isinstance(value, dict | list | tuple):
            return value, False
        if depth >= _MAX_DEPTH:
            return marker("depth"), True
        if isinstance(value, dict):
            return self._mapping(value, depth)
        pairs = [self._value(item, depth + 1) for item in value]
        return [item for item, _ in pairs], any(hit for _, hit in pairs)

    def _mapping(self, value: dict[Any, Any], depth: int) -> tuple[dict[str, Any], bool]:
        clean: dict[str, Any] = {}
        redacted = False
        for key, item in value.items():
            name = str(key)
            if item not in (None, "") and not isinstance(item, bool) and self.is_secret_key(name):
                clean[name], redacted = marker("key"), True
                continue
            clean[name], hit = self._value(item, depth + 1)
            redacted = redacted or hit
        return clean, redacted


def _fold(key: str) -> str:
    return _SEPARATORS.sub("", key[: limits.MAX_NAME]).casefold()
