"""Drafts a fix from the author's wishes and the contents of the database."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace

from datafixes.drafting.declared import declared_draft
from datafixes.drafting.recorded import recorded_draft
from datafixes.drafting.wish import Draft, Wish
from datafixes.errors import DatafixError
from datafixes.project import Project

_LONGEST_SLUG = 60


def draft(project: Project, wish: Wish) -> Draft:
    """Draft a fix from the contents of the database.

    Raises:
        DatafixError: that is impossible; the message says why.
    """
    known = {one.fix.name for one in project.fixes()}
    if wish.name in known:
        raise DatafixError(f"A fix {wish.name} already exists.", hint="Choose another name: --name NAME")
    named = replace(
        wish, name=wish.name or _free_name(wish.message, known), reason=wish.reason or _reason(wish)
    )
    return recorded_draft(project, named) if wish.statements else declared_draft(project, named)


def _reason(wish: Wish) -> str:
    words = " ".join(wish.message.split()).rstrip(".")
    return f"{words[:1].upper()}{words[1:]}."


def _free_name(message: str, known: Iterable[str]) -> str:
    plain = unicodedata.normalize("NFKD", message).encode("ascii", "ignore").decode("ascii").lower()
    slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if len(slug) > _LONGEST_SLUG:
        slug = slug[:_LONGEST_SLUG].rpartition("_")[0] or slug[:_LONGEST_SLUG]
    slug = slug or "fix"
    name, number = slug, 1
    while name in known:
        number += 1
        name = f"{slug[: _LONGEST_SLUG - 4]}_{number}"
    return name
