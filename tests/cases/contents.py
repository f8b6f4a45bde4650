"""What is in the tables of a case, and what became of it, found by comparing full copies: independent of the engine."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import psycopg2

from tests.servers import Database

# How somebody else changes a value, by the category of its type; the first that the table accepts is taken.
CHANGES = {
    "S": ("@ || 'x'", "'x'", "reverse(@)", "NULL"),
    "N": ("@ + 1", "@ - 1", "NULL"),
    "B": ("NOT coalesce(@, false)", "NULL"),
    "D": ("@ + interval '1 day'", "now()"),
    "T": ("@ + interval '1 day'",),
    "U": ("'{\"changed\": 1}'", "gen_random_uuid()"),
}


@dataclass(frozen=True)
class Effect:
    """How many rows of a table are inserted, updated and deleted."""

    inserted: int
    updated: int
    deleted: int


class Contents:
    """The tables of a case, in `public`, and copies of them in the schema `was`."""

    def __init__(self, database: Database, tables: list[str]) -> None:
        self.database = database
        there = {
            name for (name,) in database.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        }
        self.tables = [table for table in tables if table in there]

    def dump(self) -> dict[str, list[str]]:
        """Everything, but for the copies."""
        return {
            name: rows
            for name, rows in self.database.dump().items()
            if not name.endswith("_audit") and ".datafix_" not in name and "alembic_version" not in name
            and not name.startswith("was.")
        }  # fmt: skip

    def key(self, table: str) -> list[str]:
        """The primary key, or nothing."""
        return [
            name
            for (name,) in self.database.rows(
                "SELECT quote_ident(a.attname) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
                f" WHERE i.indisprimary AND i.indrelid = 'public.\"{table}\"'::regclass"
            )
        ]

    def keep(self) -> None:
        """Copy all tables of the database as they are."""
        self.database.execute("CREATE SCHEMA was")
        for name in self.dump():
            plain = name.removeprefix("public.")
            self.database.execute(f'CREATE TABLE was."{plain}" AS TABLE public."{plain}"')

    def changed(self) -> list[str]:
        """The tables that are not as they were kept."""
        names = [name.removeprefix("public.") for name in self.dump()]
        return [
            name
            for name in names
            if self.database.value(
                f'SELECT EXISTS ((SELECT t::text FROM public."{name}" t EXCEPT ALL SELECT w::text FROM was."{name}" w)'
                f' UNION ALL (SELECT w::text FROM was."{name}" w EXCEPT ALL SELECT t::text FROM public."{name}" t))'
            )
        ]

    def folded(self, table: str, effect: Effect) -> Effect:
        """The effect as it shows: without a key, an update is the end of one image and the beginning of another."""
        if self.key(table):
            return effect
        return Effect(effect.inserted + effect.updated, 0, effect.updated + effect.deleted)

    def effect(self, table: str) -> Effect:
        """What became of a table since it was kept."""
        key = self.key(table)
        if not key:
            [(inserted, deleted)] = self.database.rows(
                f'SELECT (SELECT count(*) FROM (SELECT t::text FROM public."{table}" t EXCEPT ALL SELECT w::text FROM was."{table}" w) _),'
                f' (SELECT count(*) FROM (SELECT w::text FROM was."{table}" w EXCEPT ALL SELECT t::text FROM public."{table}" t) _)'
            )
            return Effect(inserted, 0, deleted)
        [found] = self.database.rows(
            f"SELECT count(*) FILTER (WHERE w.{key[0]} IS NULL), count(*) FILTER (WHERE t::text <> w::text), count(*) FILTER (WHERE t.{key[0]} IS NULL)"
            f' FROM public."{table}" t FULL JOIN was."{table}" w USING ({", ".join(key)})'
        )
        return Effect(*found)

    def images_are_true(self, table: str) -> bool:
        """Whether the before-images are rows as they were, and the after-images rows as they are, and none is missing."""
        columns = ", ".join(
            name
            for (name,) in self.database.rows(
                "SELECT quote_ident(attname) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
                f" AND attrelid = 'public.\"{table}\"'::regclass ORDER BY attnum"
            )
        )
        run = "audit_run_id = (SELECT max(run_id) FROM datafix_run)"
        gone = f'SELECT w::text FROM was."{table}" w EXCEPT ALL SELECT t::text FROM public."{table}" t'
        come = f'SELECT t::text FROM public."{table}" t EXCEPT ALL SELECT w::text FROM was."{table}" w'
        for image, truth in (("before", gone), ("after", come)):
            copies = (
                f"SELECT ROW({columns})::text FROM \"{table}_audit\" WHERE {run} AND audit_image = '{image}'"
            )
            if self.database.rows(
                f"(({copies}) EXCEPT ALL ({truth})) UNION ALL (({truth}) EXCEPT ALL ({copies}))"
            ):
                return False
        return True

    def somebody_writes(self, effect: Mapping[str, Effect]) -> bool:
        """Change a row that the fix wrote, or take the place of one that it deleted; whether that was possible."""
        with closing(self.database.connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            for statement in self._foreign_writes(effect):
                try:
                    cursor.execute(statement)
                except psycopg2.Error:
                    continue
                if cursor.rowcount == 1:
                    return True
        return False

    def _foreign_writes(self, effect: Mapping[str, Effect]) -> list[str]:
        found = []
        for table, rows in effect.items():
            key = self.key(table)
            columns = self.database.rows(
                "SELECT quote_ident(attname), typcategory FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
                f" WHERE attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attrelid = 'public.\"{table}\"'::regclass"
            )
            free = [(name, kind) for name, kind in columns if name not in key]
            for name, kind in free if key else []:
                for change in CHANGES.get(kind, ()):
                    new = change.replace("@", f"t.{name}")
                    same = " AND ".join(f"t.{k} = w.{k}" for k in key)
                    if rows.updated:
                        found.append(
                            f'UPDATE public."{table}" t SET {name} = {new} FROM was."{table}" w WHERE {same} AND t.{name} IS DISTINCT FROM w.{name} AND ({new})::text IS DISTINCT FROM w.{name}::text'
                            f' AND t.ctid = (SELECT min(t.ctid) FROM public."{table}" t JOIN was."{table}" w ON {same} WHERE t.{name} IS DISTINCT FROM w.{name})'
                        )
                    if rows.inserted:
                        found.append(
                            f'UPDATE public."{table}" t SET {name} = {new} WHERE t.ctid = (SELECT min(t.ctid) FROM public."{table}" t'
                            f' WHERE NOT EXISTS (SELECT FROM was."{table}" w WHERE {same}))'
                        )
                    if rows.deleted:
                        values = ", ".join(
                            change.replace("@", f"w.{c}") if c == name else f"w.{c}" for c, _ in columns
                        )
                        names = ", ".join(c for c, _ in columns)
                        found.append(
                            f'INSERT INTO public."{table}" ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM was."{table}" w'
                            f' WHERE NOT EXISTS (SELECT FROM public."{table}" t WHERE {same}) ORDER BY {", ".join(f"w.{k}" for k in key)} LIMIT 1'
                        )
        return found
