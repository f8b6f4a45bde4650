"""Sealed runs as files: proven without a database, and by a program that knows nothing of PostgreSQL."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.servers import Database
from tests.tampering import tamper
from tests.trust.audits import anchor, three_runs
from tests.trust.test_no_alarm import applied, sealed


def exported(directory: Path, *more: str, code: int = 0) -> dict[int, str]:
    """Run → what is known of it, from the files alone: there is no project and no database."""
    told = answer(None, "verify-audit", "--export", str(directory), *more, code=code)
    assert told["fine"] == (code == 0)
    return {one["run_id"]: one["state"] for one in told["ledgers"][0]["runs"]}


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_files_are_proven_without_a_database(
    tmp_path: Path, database: Database, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = three_runs(tmp_path, database).on(database, driver)
    kept = anchor(project, tmp_path / "anchor.json")
    assert datafixes(project, "export", "--all", str(tmp_path / "all")).code == 0
    assert datafixes(project, "export", "1", "3", str(tmp_path / "some")).code == 0
    monkeypatch.chdir(tmp_path / "all")
    assert exported(tmp_path / "all") == {1: "proven", 2: "proven", 3: "proven"}
    assert exported(tmp_path / "some", "--anchor", str(kept)) == {1: "proven", 3: "proven"}
    with (tmp_path / "all/run-1-1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["audit_image"], row["id"], row["amount"]) for row in rows] == [
        ("before", "1", "10.00"), ("before", "2", "20.00"), ("after", "1", "110.00"), ("after", "2", "120.00"),
    ]  # fmt: skip
    assert "3 runs proven" in datafixes(None, "verify-audit", "--export", str(tmp_path / "all")).out


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("run-1-1.csv", "10.00", "11.00", {1: "differs"}),
        ("run-2-1.csv", '"after","', '"before","', {2: "differs"}),
        ("run-3-1.csv", ",symbol,", ",name,", {3: "differs"}),
        ("manifest.json", "Closed by hand", "Closed by law", {1: "differs", 2: "differs", 3: "differs"}),
        ("manifest.json", '"position": 2,', '"position": 4,', {2: "broken", 3: "broken"}),
        ("manifest.json", '"images": 4,', '"images": 3,', {1: "broken", 2: "broken", 3: "broken"}),
    ],
)  # fmt: skip
def test_a_changed_file_is_found(
    tmp_path: Path, database: Database, file: str, old: str, new: str, expected: dict[int, str]
) -> None:
    project = three_runs(tmp_path, database)
    assert datafixes(project, "export", "--all", str(tmp_path / "all")).code == 0
    path = tmp_path / "all" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    found = exported(tmp_path / "all", code=3)
    assert {run: state for run, state in found.items() if state != "proven"} == expected


def test_lines_that_are_gone_or_come_on_top_are_found(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    assert datafixes(project, "export", "--all", str(tmp_path / "all")).code == 0
    lines = (tmp_path / "all/run-1-1.csv").read_text().splitlines(keepends=True)
    (tmp_path / "all/run-1-1.csv").write_text("".join(lines[:-1]))
    (tmp_path / "all/run-2-1.csv").write_text("".join([*lines, lines[-1]]))
    (tmp_path / "all/run-3-1.csv").unlink()
    assert exported(tmp_path / "all", code=3) == {1: "removed", 2: "added", 3: "removed"}


def test_every_odd_text_comes_out_as_postgresql_writes_rows(tmp_path: Path, database: Database) -> None:
    values = [
        "NULL", "''", "' '", "'a,b'", "'(x)'", "'say \"q\"'", "chr(92)", "E'a\\nb\\r\\n'", "chr(92) || 'N'", "'NULL'", "E'\\t'", "'é€😀'",
        "chr(160)", "chr(133)", "repeat(chr(34), 3)", "','", "repeat(chr(92), 3)",
    ]  # fmt: skip
    rows = ", ".join(f"({n}, {value}, ARRAY[{value}], ROW({value})::text)" for n, value in enumerate(values))
    applied(
        database,
        "CREATE TABLE thing (id integer PRIMARY KEY, a text, b text[], c text, what text);"
        f" INSERT INTO thing (id, a, b, c) VALUES {rows}",
        "what=x",
    )
    project = sealed(tmp_path, database)
    assert datafixes(project, "export", "1", str(tmp_path / "one")).code == 0
    assert exported(tmp_path / "one") == {1: "proven"}


def test_json_lines_hold_what_the_csv_holds_and_prove_nothing(tmp_path: Path, database: Database) -> None:
    applied(
        database,
        "CREATE TABLE thing (id integer PRIMARY KEY, note text, doc jsonb, n numeric, at timestamptz, what text);"
        r""" INSERT INTO thing VALUES (1, E'a\n"b"\t\\ \u20ac', '{"a": [1, null]}', 1.50, '2026-01-01', NULL),"""
        " (2, NULL, NULL, 'NaN', NULL, '')",
        "what=x",
    )
    project = sealed(tmp_path, database)
    assert datafixes(project, "export", "--all", "--jsonl", str(tmp_path / "all")).code == 0
    with (tmp_path / "all/run-1-1.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    shown = [
        [row[name] for name in ("audit_id", "audit_image", "id", "note", "doc", "n", "at", "what")]
        for row in rows
    ]
    assert shown[:2] == [
        [1, "before", 1, 'a\n"b"\t\\ \u20ac', {"a": [1, None]}, 1.5, "2026-01-01T00:00:00+00:00", None],
        [2, "before", 2, None, None, "NaN", None, ""],
    ]
    with (tmp_path / "all/run-1-1.csv").open(newline="", encoding="utf-8") as file:
        assert [[*row] for row in rows] == [next(csv.reader(file))] * 4
    assert exported(tmp_path / "all") == {1: "proven"}
    (tmp_path / "all/run-1-1.jsonl").write_text("")
    assert exported(tmp_path / "all") == {1: "proven"}


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    tamper(database, "DELETE FROM datafix_chain WHERE position = 3")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    for arguments, words in (
        (("3", str(tmp_path / "a")), "Not sealed: run 3."),
        (("1", str(tmp_path / "full")), "is not empty"),
    ):
        ran = datafixes(project, "export", *arguments)
        assert ran.code == 1
        assert words in ran.err
    assert datafixes(project, "export", str(tmp_path / "a")).code == 2
    assert datafixes(project, "export", "1", "--all", str(tmp_path / "a")).code == 2
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "other"}))
    for directory in (tmp_path, tmp_path / "nowhere"):
        assert datafixes(None, "verify-audit", "--export", str(directory)).code == 1
