"""Documents as the commands make them, for the tests of their forms."""

from dataclasses import replace

from datafixes.report.document import Cell, Changes, Document, Fact, Grid, Kind, Row, Section, Value

KEYS = {13: "94.6100", 16: "148.0000", 19: "61.2500", 21: "0.4400", 24: "7.0500", 32: "12.9000", 33: "3.1000"}


def cell(column: str, before: str | None, after: str | None) -> Cell:
    return Cell(column, Value(before), Value(after), before != after)


def there(kind: Kind, key: str, **values: str | None) -> Row:
    """A row that came or went."""
    pairs = [(name, Value(text)) for name, text in values.items()]
    return Row(
        key, kind,
        tuple(Cell(n, v, None) if kind == "deleted" else Cell(n, None, v) for n, v in pairs),
    )  # fmt: skip


def phantoms() -> Changes:
    rows = tuple(
        Row(
            str(key),
            "updated",
            (
                cell("status", "open", "closed"),
                cell("close_reason", None, "manual_reconciliation"),
                cell("closed_at", None, "2026-03-04 17:30:00+00"),
                cell("exit_price", None, price),
                cell("pnl", "0.0000" if key == 21 else None, "0.0000" if key == 21 else f"-{key}.5000"),
            ),
        )
        for key, price in KEYS.items()
    )
    return Changes("public.active_positions", rows, 7)


def plan() -> Document:
    """Seven rows are closed, one is inserted, one is deleted."""
    log = (
        there("inserted", "1", symbol="QCOM", note="closed by hand", at="2026-03-04 17:30:00+00"),
        there("deleted", "77", symbol="TSLA", note=None, at="2026-03-01 09:00:00+00"),
    )
    return Document(
        title="Plan: upgrade to 015",
        summary="1 revision, 1 run of data fixes: 1 inserted, 7 updated, 1 deleted. All of it can be reverted: that was tried.",
        state="good",
        facts=(
            Fact("Database", "db.internal:5432/ops"),
            Fact("At revision", "014"),
            Fact("Digest", "5f0c3f6f1d7c6b52", below=True),
            Fact("To run exactly this plan", "alembic -x plan=5f0c3f6f1d7c6b52 upgrade 015", exact=True, below=True),
            Fact("Committed", "nothing: all was rolled back, and a COMMIT would have failed", below=True),
        ),
        sections=(
            Section(
                "015 Close the seven phantom positions of 4 March",
                state="good",
                facts=(
                    Fact("Fix", "close_phantom_positions"),
                    Fact("Reason", "The shorts were closed by hand at the broker; see https://tickets.example/OPS-1234.", links=True),
                    Fact("Outcome", "applied: 9 found, 9 changed, 0 already as wanted"),
                    Fact("public.active_positions", "expected 7 updated, named one by one; found 7 updated"),
                    Fact("public.event_log", "expected 1 inserted, 1 deleted; found 1 inserted, 1 deleted"),
                    Fact("Sequence", "event_log_id_seq is behind: it would hand out 1 next", "attention"),
                    Fact("Can be reverted", "yes: its downgrade() was run and restored 9 rows, bit for bit", "good"),
                    Fact("Acting", "trigger note_change BEFORE UPDATE on active_positions", below=True),
                    Fact("Locks", "active_positions: ROW EXCLUSIVE; held for 0.01 s and until the commit", below=True),
                ),
                changes=(phantoms(), Changes("public.event_log", log, 2)),
            ),
        ),
    )  # fmt: skip


def thirty() -> Document:
    """Thirty rows of one table."""
    rows = tuple(
        Row(
            str(number), "updated",
            (cell("status", "open", "closed"), cell("close_reason", None, "manual_reconciliation"),
             cell("closed_at", None, "2026-03-04 17:30:00+00"), cell("exit_price", None, f"{number}.5000")),
            "QCOM",
        )
        for number in range(30)
    )  # fmt: skip
    [section] = plan().sections
    facts = tuple(fact for fact in section.facts if fact.name not in ("public.event_log", "Sequence"))
    changes = (Changes("public.active_positions", rows, 30),)
    return replace(plan(), sections=(replace(section, facts=facts, changes=changes),))


def long_texts() -> Document:
    """A word in a long text, and members in JSON."""
    long = "the order was imported without tax and the customer asked for a corrected invoice " * 9
    data = '{"id": 12, "tags": ["late", "paid"], "tax": {"rate": 0.19, "class": "standard"}}'
    cells = (
        cell("note", f"{long}net 19 %, {long}end.", f"{long}net 7 %, {long}new end."),
        cell("data", data, data.replace("0.19", "0.07").replace('"late", ', "")),
        cell("count", "1", "2"),
    )
    return Document(
        "Long", sections=(Section("s", changes=(Changes("t", (Row("11", "updated", cells, "A-17"),), 1),)),)
    )


def refusal() -> Document:
    """A downgrade that somebody's later change stands in the way of."""
    return Document(
        title="Plan: downgrade to 014",
        summary="0 revisions, 0 runs of data fixes: nothing. Then 015 would be refused.",
        state="bad",
        facts=(Fact("Database", "db.internal:5432/ops"), Fact("At revision", "015")),
        sections=(
            Section(
                "015 would be refused",
                state="bad",
                facts=(
                    Fact(
                        "Why",
                        "datafix close_phantom_positions: 1 of 7 rows of public.active_positions cannot be restored: 16 changed since.",
                        "bad",
                    ),
                    Fact("What to do", "Look at row 16. To leave it as it is and give back the other 6:"),
                    Fact("", "alembic -x on_conflict=close_phantom_positions:skip downgrade 014", exact=True),
                ),
                block=(
                    "key  conflict       column      before  left by the fix  now\n"
                    "16   changed since  exit_price  NULL    148.0000         147.1000"
                ),
            ),
        ),
    )


def history(*rows: tuple[str | None, ...]) -> Document:
    columns = ("run", "finished", "fix", "revision", "direction", "outcome", "rows", "reverted by", "by")
    return Document(
        "History",
        f"{len(rows)} runs, newest first.",
        sections=(Section("Runs", grids=(Grid("", columns, rows, "no fix has run in this database"),)),),
    )


def two_runs() -> Document:
    return history(
        ("2", "2026-03-05 08:12:44 UTC", "close_phantom_positions", "015", "revert", "reverted", "7", None, "deploy (commit 3f2a91c)"),
        ("1", "2026-03-04 17:31:09 UTC", "close_phantom_positions", "015", "apply", "applied", "7", "run 2", "deploy (commit 81bb0de)"),
    )  # fmt: skip


HOSTILE = (
    "<script>window.owned=1</script>", "</script></td></table></noscript><img src=http://evil.example/x onerror=window.owned=1>",
    "\"' onmouseover=window.owned=1 x='", "javascript:window.owned=1", "{{ 7*7 }}{% raw %}", "--><!-- ]]>", "</style></title></template>",
    "\x00\x1b[31mred\x1b]0;title\x07", "invoice\u202egpj.exe", "a\u200bb", "\ud800", "| a | b |", "`code` ``more``",
    "@everyone #1 [x](http://evil.example) ![](http://evil.example/y.png) https://evil.example www.evil.example a@evil.example",
    "line\nbreak\r\n# heading\n\n- list", "\\|", "ends with \\", "''", "NULL", "", " ", "E'x'", "</details>", "&lt;b&gt;&amp;", "$x$ :+1:",
)  # fmt: skip


def hostile() -> Document:
    """Values, names and sentences that want to be more than text."""
    rows = tuple(
        Row(
            value or "empty",
            "updated",
            (Cell(value or "c", Value(value), Value(value + "!")), cell("n", None, value)),
        )
        for value in HOSTILE
    )
    everything = " ".join(HOSTILE)
    return Document(
        everything, everything, "attention", (Fact(everything, everything, "bad"), Fact("exact", everything, exact=True)),
        (
            Section(
                everything, "good", (Fact(everything, everything),), (everything,), everything,
                (Grid(everything, HOSTILE, (HOSTILE,)), Grid(everything, (everything,), (), everything)),
                (Changes(everything, rows, len(rows) + 5),),
            ),
        ),
    )  # fmt: skip


def many(rows: int, columns: int) -> Document:
    """A large run."""
    found = tuple(
        Row(
            str(number),
            "updated",
            tuple(
                cell(f"column_{at}", f"{(number * 7919 + at) % 10007}.50", f"value {number} {at}")
                for at in range(columns)
            ),
        )
        for number in range(rows)
    )
    return Document(
        "Run 1 of backfill", f"applied: {rows} updated.", sections=(Section("public.t", changes=(Changes("public.t", found, rows),)),)
    )  # fmt: skip
