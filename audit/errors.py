"""What can go wrong with the audit log. The docstring of a class is its default message."""

from __future__ import annotations


class AuditError(Exception):
    """The audit log cannot be used."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__)


class AppendOnly(AuditError):
    """Entries of the audit log cannot be changed or deleted."""


class UnknownKey(AuditError):
    """The key of the audit log is not known."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no secret gives the audit key {key_id}: add the earlier secret to Z4J_AUDIT_SECRETS")
        self.key_id = key_id


class Unreadable(AuditError):
    """This is not a signed statement of the audit log."""


class BadSignature(AuditError):
    """The signature does not fit the statement."""


class Tampered(AuditError):
    """The audit log was tampered with; nothing is signed or removed."""
