"""What all declarations of fixes have: a name and a reason, other tables, and a fingerprint."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from datafixes.declaration.expressions import check_identifiers, check_text, plain
from datafixes.errors import DeclarationError

Relation = str | tuple[str, str]
"""A table: its name, or its schema and name."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def fingerprint(content: Mapping[str, Any]) -> str:
    """SHA-256 of a declaration's content."""
    text = json.dumps(plain(content), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def check_name_and_reason(name: str, reason: str) -> None:
    """Refuse a name that the ledger cannot use, and an empty reason."""
    if not _NAME.fullmatch(name):
        raise DeclarationError(
            f"DataFix: the name {name!r} is not valid.",
            hint="Use up to 63 letters, digits, '_', '.' and '-', for example close_phantom_positions.",
        )
    if not reason.strip():
        raise DeclarationError(
            f"datafix {name}: the reason is empty, but the ledger keeps it for the auditor."
        )
    check_text("reason", reason, expression=False)


def relations(
    fix: str, given: Collection[Relation], changed: Collection[tuple[str, str]] = ()
) -> list[list[str]]:
    """Tables as pairs of schema and name; refuses invalid names and tables that the fix itself changes."""
    if isinstance(given, str):
        raise DeclarationError(
            f"datafix {fix}: may_differ={given!r} is a string; it must be a list of tables."
        )
    pairs = [("public", one) if isinstance(one, str) else one for one in given]
    for schema, name in pairs:
        check_identifiers(schema, name)
        if (schema, name) in changed:
            raise DeclarationError(
                f"datafix {fix}: the table {schema}.{name} is both a target and in may_differ."
            )
    return [[schema, name] for schema, name in pairs]
