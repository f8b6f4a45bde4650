"""Batches over keys in collations of ICU, which the wheel's servers lack: each row once, in the collation's own order."""

from pathlib import Path

import pytest

from tests.batches.many import many_project
from tests.batches.test_odd import every_row_once, in_key, odd_table
from tests.servers import Database

COLLATIONS = {
    "icu": "provider = icu, locale = 'und'",
    "numeric": "provider = icu, locale = 'und-u-kn'",
    "nondeterministic": "provider = icu, locale = 'und-u-ks-level2', deterministic = false",
}
# In each, the order is another than that of the bytes, and keys of one length have others between them.
KEY = "CASE WHEN n % 2 = 0 THEN chr(97 + n % 26) ELSE chr(65 + n % 26) END || n"


@pytest.mark.parametrize("name", COLLATIONS)
def test_every_row_once(name: str, tmp_path: Path, database: Database) -> None:
    database.execute(f"CREATE COLLATION odd ({COLLATIONS[name]})")
    table = odd_table("k text COLLATE odd", "PRIMARY KEY (k)", KEY)
    project = many_project(tmp_path, database, table=table, top=in_key('"k"'))
    rows = database.rows("SELECT * FROM many ORDER BY k")

    every_row_once(project)

    assert project.alembic("downgrade", "-1").code == 0
    assert database.rows("SELECT * FROM many ORDER BY k") == rows


def test_another_version_of_the_collation_does_not_go_on(tmp_path: Path, database: Database) -> None:
    database.execute("CREATE COLLATION odd (provider = icu, locale = 'und')")
    table = odd_table("k text COLLATE odd", "PRIMARY KEY (k)", KEY)
    project = many_project(tmp_path, database, table=table, top=in_key('"k"'))
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v < 1100)")
    assert project.alembic("upgrade", "head").code == 255
    done = database.value("SELECT count(*) FROM many WHERE done")
    database.execute("ALTER TABLE many DROP CONSTRAINT small")
    version = database.value("SELECT pg_collation_actual_version('odd'::regcollation)")
    database.execute(
        "UPDATE datafix_run SET declaration = jsonb_set(declaration, '{batches,key_order,0,collation_version}', '\"1.1\"')"
        " WHERE outcome = 'running'"
    )

    ran = project.alembic("upgrade", "head")

    assert ran.code == 255
    assert (
        f"(k text COLLATE public.odd, version 1.1) then, (k text COLLATE public.odd, version {version}) now."
        in ran.last_line
    )
    assert database.value("SELECT count(*) FROM many WHERE done") == done
