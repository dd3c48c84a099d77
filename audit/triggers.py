"""What refuses changes in the database itself, for SQLite and for PostgreSQL, and whether it is still there.

There is no switch: a role that may not change the schema cannot get past these. Entries go only up to where a carry row
says the chain was pruned to, and a carry row that nobody signed is found by verification. Tests, which empty all
tables, drop the triggers and create them again. A migration that alters these tables does the same: on SQLite Django
copies an altered table, and the triggers are lost with the old one.
"""

from __future__ import annotations

from typing import Any

ENTRY, CHAIN, CHECKPOINT, CARRY = "z4j_audit_entry", "z4j_audit_chain", "z4j_audit_checkpoint", "z4j_audit_carry"
REFUSED = "the audit log is append-only"

_PRUNED = f"COALESCE((SELECT MAX(pruned_to) FROM {CARRY} WHERE chain_id = {{row}}.chain_id), 0)"  # noqa: S608
_LAST = f"COALESCE((SELECT MAX(seq) FROM {ENTRY} WHERE chain_id = NEW.chain_id), {_PRUNED.format(row='NEW')})"  # noqa: S608

#: Name, event, table, what must hold for it to be refused.
_SQLITE = (
    ("entry_update", "UPDATE", ENTRY, "1"),
    ("entry_delete", "DELETE", ENTRY, f"OLD.seq > {_PRUNED.format(row='OLD')}"),
    # INSERT OR REPLACE deletes without firing the trigger of deletion, so what is there already is refused here.
    ("entry_insert", "INSERT", ENTRY,
     f"NEW.seq IS NOT {_LAST} + 1 OR EXISTS (SELECT 1 FROM {ENTRY} WHERE id = NEW.id)"),  # noqa: S608
    ("chain_update", "UPDATE", CHAIN, "NEW.id IS NOT OLD.id OR NEW.size < OLD.size"),
    ("chain_delete", "DELETE", CHAIN, "1"),
    ("chain_insert", "INSERT", CHAIN, f"EXISTS (SELECT 1 FROM {CHAIN} WHERE id = NEW.id)"),  # noqa: S608
    ("checkpoint_update", "UPDATE", CHECKPOINT, "1"),
    ("checkpoint_delete", "DELETE", CHECKPOINT, "1"),
    ("checkpoint_insert", "INSERT", CHECKPOINT,
     f"EXISTS (SELECT 1 FROM {CHECKPOINT} WHERE id = NEW.id"  # noqa: S608
     " OR (chain_id = NEW.chain_id AND number = NEW.number))"),
    ("carry_update", "UPDATE", CARRY, "1"),
    ("carry_delete", "DELETE", CARRY, "1"),
    ("carry_insert", "INSERT", CARRY,
     f"EXISTS (SELECT 1 FROM {CARRY} WHERE id = NEW.id"  # noqa: S608
     " OR (chain_id = NEW.chain_id AND pruned_to = NEW.pruned_to))"),
)  # fmt: skip

_RAISE = f"RAISE EXCEPTION '{REFUSED}' USING ERRCODE = 'integrity_constraint_violation'"
_FUNCTIONS = {
    "z4j_audit_refuse": f"BEGIN {_RAISE}; END",
    "z4j_audit_prune": f"BEGIN IF OLD.seq > {_PRUNED.format(row='OLD')} THEN {_RAISE}; END IF; RETURN OLD; END",
    "z4j_audit_append": (
        f"BEGIN IF NEW.seq IS DISTINCT FROM {_LAST} + 1 THEN {_RAISE}; END IF; RETURN NEW; END"
    ),
    "z4j_audit_grow": (
        f"BEGIN IF NEW.id <> OLD.id OR NEW.size < OLD.size THEN {_RAISE}; END IF; RETURN NEW; END"
    ),
}  # fmt: skip

#: The bits of ``pg_trigger.tgtype``.
_ROW, _BEFORE, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 2, 4, 8, 16, 32
_WORDS = {_INSERT: "INSERT", _DELETE: "DELETE", _UPDATE: "UPDATE", _TRUNCATE: "TRUNCATE"}
#: Name, type, table, function.
_POSTGRESQL = (
    ("entry_update", _BEFORE | _ROW | _UPDATE, ENTRY, "z4j_audit_refuse"),
    ("entry_delete", _BEFORE | _ROW | _DELETE, ENTRY, "z4j_audit_prune"),
    ("entry_insert", _BEFORE | _ROW | _INSERT, ENTRY, "z4j_audit_append"),
    ("chain_update", _BEFORE | _ROW | _UPDATE, CHAIN, "z4j_audit_grow"),
    ("chain_delete", _BEFORE | _ROW | _DELETE, CHAIN, "z4j_audit_refuse"),
    ("checkpoint_change", _BEFORE | _ROW | _UPDATE | _DELETE, CHECKPOINT, "z4j_audit_refuse"),
    ("carry_change", _BEFORE | _ROW | _UPDATE | _DELETE, CARRY, "z4j_audit_refuse"),
    *((f"{table[10:]}_truncate", _BEFORE | _TRUNCATE, table, "z4j_audit_refuse")
      for table in (ENTRY, CHAIN, CHECKPOINT, CARRY)),
)  # fmt: skip


def create(connection: Any) -> None:
    """Create the triggers."""
    with connection.cursor() as cursor:
        for statement in _creating(connection.vendor):
            cursor.execute(statement)


def drop(connection: Any) -> None:
    """Drop the triggers."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for name, *_ in _SQLITE:
                cursor.execute(f"DROP TRIGGER IF EXISTS z4j_audit_{name}")
            return
        for name, _, table, _ in _POSTGRESQL:
            cursor.execute(f"DROP TRIGGER IF EXISTS z4j_audit_{name} ON {table}")
        for function in _FUNCTIONS:
            cursor.execute(f"DROP FUNCTION IF EXISTS {function}()")


def differences(connection: Any) -> list[str]:
    """Return the names of triggers that are missing or not as they were created."""
    expected, found = _expected(connection.vendor), _found(connection)
    return sorted(name for name, definition in expected.items() if found.get(name) != definition)


def _creating(vendor: str) -> list[str]:
    if vendor == "sqlite":
        return list(_expected("sqlite").values())
    made = [
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$" for name, body in _FUNCTIONS.items()
    ]
    for name, kind, table, function in _POSTGRESQL:
        events = " OR ".join(word for bit, word in _WORDS.items() if kind & bit)
        each = "ROW" if kind & _ROW else "STATEMENT"
        made.append(
            f"CREATE TRIGGER z4j_audit_{name} BEFORE {events} ON {table} FOR EACH {each} EXECUTE FUNCTION {function}()"
        )
        # ALWAYS: a session that calls itself a replica does not get past it either.
        made.append(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER z4j_audit_{name}")
    return made


def _expected(vendor: str) -> dict[str, Any]:
    if vendor == "sqlite":
        return {
            f"z4j_audit_{name}": f"CREATE TRIGGER z4j_audit_{name} BEFORE {event} ON {table} WHEN {refused} "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
            for name, event, table, refused in _SQLITE
        }
    return {
        f"z4j_audit_{name}": (table, kind, "A", True, function, _FUNCTIONS[function])
        for name, kind, table, function in _POSTGRESQL
    }


def _found(connection: Any) -> dict[str, Any]:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'z4j_audit_%%'")
            return dict(cursor.fetchall())
        cursor.execute(
            "SELECT t.tgname, c.relname, t.tgtype, t.tgenabled::text, t.tgqual IS NULL, p.proname, p.prosrc "
            "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE t.tgrelid = ANY (SELECT to_regclass(name) FROM unnest(%s::text[]) name)",
            [[ENTRY, CHAIN, CHECKPOINT, CARRY]],
        )
        return {row[0]: tuple(row[1:]) for row in cursor.fetchall()}
