"""What `datafixes check` finds of declarations that may be another one at the next load, and of ids that an insert brings.

Kinds: clocks, chance, the environment and the machine, other files, other programs and the network, the database, the order of
a set. Ways from there into a declaration: a value, a name, an alias, a helper, a class, a loop, a condition, what is added to a
list, an argument, a function that makes the fix.
"""

from pathlib import Path

import pytest

from datafixes.check.checking import check
from datafixes.check.finding import Finding

TOP = """\
import csv, datetime, datetime as dt, glob, json, os, platform, random, secrets, socket, subprocess, sys, time, uuid
import getpass as whoever
import numpy as np
from datetime import date as day, datetime as moment
from os import environ, getenv as setting
from pathlib import Path
from uuid import uuid4
from alembic import context, op
from datafixes import DataFix, Insert, RecordedFix, Rows, Table, Update, sql

revision, down_revision = "a", None
revision = "a"
"""
FIX = """
fix = DataFix(name="one", reason="r", change=Update("t", set={{"a": {value}}}), rows=Rows(key="id", expect={expect}), audit="t_audit")
"""
WAYS = """
def upgrade():
    op.apply_datafix(fix)
def downgrade():
    op.revert_datafix(fix)
"""


def findings(
    tmp_path: Path, top: str = "", *, value: str = "1", expect: str = "[1]", ways: str = WAYS, fix: str = FIX
) -> list[Finding]:
    path = tmp_path / "a.py"
    path.write_text(TOP + top + "\n" + fix.format(value=value, expect=expect) + ways, "utf-8")
    return list(check([path]).findings)


MOVING = {
    "datetime": "str(datetime.datetime.now())",
    "alias": "dt.datetime.now(dt.UTC).isoformat()",
    "from import": "moment.utcnow().year",
    "today": "day.today().isoformat()",
    "time": "int(time.time())",
    "strftime": "time.strftime('%Y-%m-%d')",
    "uuid": "str(uuid4())",
    "uuid1": "uuid.uuid1().hex",
    "random": "str(random.choice('ab'))",
    "seedless": "random.Random().random()",
    "numpy": "float(np.random.rand())",
    "secrets": "secrets.token_hex(4) + ''",
    "urandom": "os.urandom(3).hex()",
    "environ": "os.environ['USER']",
    "environ get": "os.environ.get('USER', 'x')",
    "environ imported": "environ['USER']",
    "getenv": "setting('USER')",
    "host": "socket.gethostname()",
    "platform": "platform.node()",
    "login": "whoever.getuser()",
    "pid": "os.getpid()",
    "argv": "sys.argv[1]",
    "cwd": "str(Path.cwd())",
    "hash": "hash('x')",
    "set order": "''.join({'a', 'b'})",
    "list of a set": "list(set('ab'))[0]",
    "open": "open('x.csv').read()",
    "path": "Path('x.csv').read_text()",
    "path here": "(Path(__file__).parent / 'x').read_bytes()",
    "json": "json.load(open('x.json'))['a']",
    "glob": "glob.glob('*')[0]",
    "program": "subprocess.check_output(['date']).decode()",
    "option": "context.get_x_argument()[0]",
    "conditional": "1 if os.environ.get('PROD') else 2",
    "formatted": "f'at {moment.now()}'",
    "lambda": "(lambda: str(uuid4()))()",
    "reference": "next(map(str, (f() for f in [uuid4])))",
}


@pytest.mark.parametrize("kind", MOVING)
def test_each_kind_is_found_once(tmp_path: Path, kind: str) -> None:
    [found] = findings(tmp_path, value=MOVING[kind])
    assert (found.code, found.severity, found.line) == ("FIX305", "note", TOP.count("\n") + 3)
    assert "the declaration may differ when it is loaded again" in found.message


WAYS_IN = {
    "a name": ("NOW = moment.now()", "NOW", "[1]"),
    "a name of a name": ("A = moment.now()\nB = A", "B", "[1]"),
    "a helper": ("def when():\n    return str(moment.now())", "when()", "[1]"),
    "a helper's helper": ("def b():\n    return str(uuid4())\ndef a():\n    return b()", "a()", "[1]"),
    "a class": ("class Facts:\n    when = moment.now()", "Facts.when", "[1]"),
    "a comprehension": ("", "1", "{int(row['id']): None for row in csv.DictReader(open('ids.csv'))}"),
    "a with": ("with open('ids.json') as file:\n    IDS = json.load(file)", "1", "IDS"),
    "a loop that adds": ("IDS = [1]\nfor line in open('ids.csv'):\n    IDS.append(int(line))", "1", "IDS"),
    "a mapping that is filled": ("IDS = {1: 'x'}\nfor n in random.sample(range(9), 2):\n    IDS[n] = 'x'", "1", "IDS"),
    "a condition": ("IDS = [1]\nif environ.get('PROD'):\n    IDS = [1, 2]", "1", "IDS"),
    "an else": ("if environ.get('PROD'):\n    IDS = [1, 2]\nelse:\n    IDS = [3]", "1", "IDS"),
    "an addition": ("IDS = [1]\nIDS += [os.getpid()]", "1", "IDS"),
    "an argument": ("def rows(path):\n    return [int(n) for n in path.read_text().split()]", "1", "rows(Path('x'))"),
    "a value of its rows": ("CUTOFF = day.today()\nROWS = Rows(key='id', expect=[1], already=f\"at < '{CUTOFF}'\")", "1", "ROWS.expect"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS_IN)
def test_each_way_into_a_declaration_is_followed(tmp_path: Path, way: str) -> None:
    top, value, expect = WAYS_IN[way]
    found = [one for one in findings(tmp_path, top, value=value, expect=expect) if one.code != "FIX405"]
    if way in ("a name", "a name of a name", "a class"):  # the value itself: said once, as ever
        assert (found, len(findings(tmp_path, top, value=value))) == ([], 1)
        return
    assert [one.code for one in found] == ["FIX305"]


def test_a_function_that_makes_the_fix_and_a_recorded_one(tmp_path: Path) -> None:
    made = """
def made(when):
    return DataFix(name="one", reason="r", change=Update("t", set={{"a": when}}), rows=Rows(key="id", expect=[1]), audit="t_audit")
"""
    ways = """
def upgrade():
    op.apply_datafix(made(str(moment.now())))
def downgrade():
    op.revert_datafix("one")
"""
    assert [one.code for one in findings(tmp_path, fix=made, ways=ways)] == ["FIX305"]
    recorded = """
fix = RecordedFix(name="one", reason="r", tables=[Table("t", "t_audit", updated=len(open("x").readlines()))])
"""
    ways = """
def upgrade():
    with op.record_datafix(fix) as body:
        body.execute("UPDATE t SET a = 1")
def downgrade():
    op.revert_datafix(fix)
"""
    assert [one.code for one in findings(tmp_path, fix=recorded, ways=ways)] == ["FIX305"]


def test_a_fix_that_is_read_from_the_database(tmp_path: Path) -> None:
    ways = """
def upgrade():
    ids = [n for (n,) in op.get_bind().exec_driver_sql("SELECT id FROM t")]
    op.apply_datafix(DataFix(name="one", reason="r", change=Update("t", set={"a": 1}), rows=Rows(key="id", expect=ids), audit="t_audit"))
def downgrade():
    op.revert_datafix("one")
"""
    assert [one.code for one in findings(tmp_path, fix="", ways=ways)] == ["FIX305"]


STILL = {
    "a fixed time": ("", "dt.datetime(2026, 1, 2, tzinfo=dt.UTC)", "[1]"),
    "in SQL": ("", "sql('now()')", "[1]"),
    "a text": ("", "'open(os.environ[1]) at datetime.now()'", "[1]"),
    "a comment": ("# moment.now(), uuid4() and open() are not called here", "1", "[1]"),
    "a fixed uuid": ("", "uuid.UUID(int=7)", "[1]"),
    "a seeded random": ("R = random.Random(7)", "R.random()", "[1]"),
    "beside it": ("STARTED = time.time()\nprint(os.environ)", "1", "[1]"),
    "a name that only looks so": ("random = {'choice': 1}\nopen = len", "open('ab')", "[random['choice']]"),
    "sorted": ("", "''.join(sorted({'a', 'b'}))", "[1]"),
    "a helper that reckons": ("def ids():\n    return [n * 2 for n in range(3)]", "1", "ids()"),
    "a helper that nobody calls": ("def unused():\n    return open('x')", "1", "[1]"),
}


@pytest.mark.parametrize("kind", STILL)
def test_what_is_the_same_each_time_is_not_found(tmp_path: Path, kind: str) -> None:
    top, value, expect = STILL[kind]
    found = [one.code for one in findings(tmp_path, top, value=value, expect=expect)]
    assert found == (["FIX406"] if kind == "in SQL" else [])


def test_what_the_upgrade_reads_beside_its_declaration_is_not_found(tmp_path: Path) -> None:
    ways = """
def upgrade():
    started = time.time()
    if os.environ.get("LOUD"):
        print(started)
    op.apply_datafix(fix)
def downgrade():
    print(open("x").read())
    op.revert_datafix(fix)
"""
    assert findings(tmp_path, ways=ways) == []


def test_it_can_be_silenced_where_it_stands(tmp_path: Path) -> None:
    top = "ID = os.getpid()  # datafixes: ignore[FIX305] a test of ours"
    assert findings(tmp_path, top, value="ID") == []


INSERTS = {
    "plain": ('[{"id": 3, "a": "x"}]', '"id"', True),
    "negative": ('[{"id": -3, "a": "x"}]', '"id"', True),
    "two columns": ('[{"id": 3, "region": "x"}]', '("region", "id")', True),
    "a comprehension": ('[{"id": 10 + n, "a": "x"} for n in RANGE]', '"id"', True),
    "counted": ('[{"id": n, "a": "x"} for n in range(7, 9)]', '"id"', True),
    "a constant": ('[{"id": FIRST, "a": "x"}]', '"id"', True),
    "by the database": ('[{"a": "x"}]', '"id"', False),
    "by default": ('[{"id": sql("DEFAULT"), "a": "x"}]', '"id"', False),
    "a text": ('[{"id": "A-3", "a": "x"}]', '"id"', False),
    "a uuid": ('[{"id": uuid.UUID(int=7), "a": "x"}]', '"id"', False),
    "not the key": ('[{"id": "A-3", "n": 3}]', '"id"', False),
    "a truth": ('[{"id": True, "a": "x"}]', '"id"', False),
}


@pytest.mark.parametrize("kind", INSERTS)
def test_numbers_that_an_insert_brings_for_its_key_are_a_note(tmp_path: Path, kind: str) -> None:
    rows, key, found = INSERTS[kind]
    fix = f"""
FIRST, RANGE = 3, (1, 2)
fix = DataFix(name="one", reason="r", change=Insert("t", rows={rows}), rows=Rows(key={key}, expect=1), audit="t_audit")
"""
    told = findings(tmp_path, fix=fix.replace("{", "{{").replace("}", "}}"))
    assert [one.code for one in told] == (["FIX409"] if found else [])
    assert all(one.severity == "note" for one in told)
