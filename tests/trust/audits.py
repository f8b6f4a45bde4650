"""An audit with several sealed runs, and what `datafixes verify-audit` says of it."""

from pathlib import Path
from typing import Any

from tests.cli.commands import answer, datafixes
from tests.projects import ENV, Project, project_with_fix
from tests.servers import Database

OWN = ("datafix_run", "datafix_run_table", "datafix_chain", "datafix_key", "datafix_salt", "item_audit")
CHAIN = "SELECT position, run_id, head FROM datafix_chain ORDER BY position"


def three_runs(directory: Path, database: Database, env: str = ENV) -> Project:
    """Run 1 applied a fix, run 2 reverted it, run 3 applied it again; four images each."""
    project = project_with_fix(directory, database, env)
    for order in (("upgrade", "head"), ("downgrade", "a"), ("upgrade", "head")):
        ran = project.alembic(*order)
        assert ran.code == 0, ran.err
    return project


def verified(project: Project, *anchors: Path, code: int = 0) -> dict[str, Any]:
    """What the command says as JSON."""
    told: dict[str, Any] = answer(
        project, "verify-audit", *(part for one in anchors for part in ("--anchor", str(one))), code=code
    )
    return told


def states(project: Project, code: int = 0, schema: int = 0) -> dict[int, str]:
    """Run → what is known of it."""
    return {one["run_id"]: one["state"] for one in verified(project, code=code)["ledgers"][schema]["runs"]}


def compared(project: Project, *anchors: Path, code: int = 0) -> list[str]:
    """What became of the entries of some anchors."""
    return [one["is"] for one in verified(project, *anchors, code=code)["anchors"]]


def anchor(project: Project, path: Path) -> Path:
    """Keep the head in a file."""
    ran = datafixes(project, "anchor")
    assert (ran.code, ran.err) == (0, "")
    path.write_text(ran.out, "utf-8")
    return path


def forge(database: Database, *statements: str) -> None:
    """Change what nobody should, as the owner of the tables can: no trigger is in the way."""
    for on in ("DISABLE", "ENABLE"):
        tables = [name for name in OWN if database.value(f"SELECT to_regclass('{name}') IS NOT NULL")]
        database.execute(*(f"ALTER TABLE {name} {on} TRIGGER ALL" for name in tables))
        if on == "DISABLE":
            database.execute(*statements)


def backup(database: Database) -> str:
    """A dump that a server of the same version reads: pg_dump of 18 sets what 16 does not know."""
    return database.backup().replace("SET transaction_timeout = 0;\n", "")
