"""Findings about fixes of very many rows, and about what stands beside a fix in batches."""

from collections.abc import Iterator

from datafixes.check.declaring import DeclaredFix, created, is_batched, most_rows
from datafixes.check.finding import Finding
from datafixes.check.module import Module, argument
from datafixes.declaration.alone import beside_batches


def in_one_transaction(module: Module, fixes: list[DeclaredFix], most: int) -> Iterator[Finding]:
    """Findings about fixes that change more than ``most`` rows in one transaction."""
    for fix in fixes:
        change, rows = argument(fix.call, None, "change"), argument(fix.call, None, "rows")
        unknown = any(keyword.arg is None for keyword in fix.call.keywords)
        if change is None or rows is None or unknown or is_batched(module, fix.call):
            continue
        if not created(module, change, "Update", "Delete"):
            continue  # an insert needs no batches
        for one in created(module, rows, "Rows"):
            expect = argument(one, None, "expect")
            number = most_rows(module, expect) if expect is not None else 0
            if expect is not None and number > most:
                told = f"{fix.words} changes up to {number:,} rows in one transaction, and check_rows is {most:,}."
                yield module.finding("FIX308", expect, told)


def nothing_else(module: Module, fixes: list[DeclaredFix]) -> Iterator[Finding]:
    """Findings about statements of a revision besides its fix in batches."""
    if any(is_batched(module, fix.call) for fix in fixes):
        for statement, words in beside_batches(module.source.tree):
            yield module.finding("FIX309", statement, f"{words}.")
