"""Alembic loads what the entry point names, whatever is imported first, and pays next to nothing for it.

The kinds of ways in which loading went wrong, or could: the form of what the entry point loads (Alembic 1.18.0 to
1.20.0 iterate over it, 1.20.1 warns of anything but a module); a module of ours that is half imported when Alembic's
import comes to it; a warning that somebody has turned into an error; an Alembic that knows no plugins.
"""

import json
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

HAS_PLUGINS = find_spec("alembic.runtime.plugins") is not None

FIRST = (
    "import alembic",
    "from alembic import op",
    "import alembic.config",
    "import alembic.autogenerate",
    "import sqlalchemy",
    "import datafixes",
    "from datafixes import DataFix",
    "import datafixes.alembic_plugin",
    "import datafixes.audit.autogenerate",
    "import datafixes.environment",
    "import datafixes.operations",
    "import datafixes.project",
    "import datafixes.pytest_plugin",
)

OPERATIONS = (
    "apply_datafix",
    "create_audit_table",
    "drop_audit_table",
    "record_datafix",
    "revert_datafix",
    "update_audit_table",
)


def python(program: str, folder: Path) -> str:
    """What a program prints in a process of its own, in which a warning is an error."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("first", FIRST)
def test_the_operations_are_found_whatever_is_imported_first(first: str, tmp_path: Path) -> None:
    ours = "" if HAS_PLUGINS else "import datafixes.operations\n"
    program = f"{first}\n{ours}import json\nfrom alembic import op\nprint(json.dumps(dir(op)))"
    found = json.loads(python(program, tmp_path))
    assert set(OPERATIONS) <= set(found)


def test_the_installed_package_names_a_module_that_can_be_iterated_over() -> None:
    [point] = [one for one in entry_points(group="alembic.plugins") if one.value.startswith("datafixes")]
    assert point in distribution("datafixes").entry_points
    plugin = point.load()
    assert plugin.__spec__.name == point.value  # a module, as Alembic 1.20.1 wants it
    assert [*plugin] == [plugin]  # and what 1.18.0 to 1.20.0 iterate over
    assert point.name == plugin.NAME


@pytest.mark.skipif(not HAS_PLUGINS, reason="this Alembic knows no plugins")
def test_a_command_of_alembic_loads_no_more_than_it_needs(tmp_path: Path) -> None:
    program = "import sys, json, alembic.command, alembic.config\nprint(json.dumps([*sys.modules]))"
    loaded = json.loads(python(program, tmp_path))
    assert {one for one in loaded if one.partition(".")[0] == "datafixes"} == {
        "datafixes",
        "datafixes.alembic_plugin",
        "datafixes.audit",
        "datafixes.audit.autogenerate",
        "datafixes.errors",  # a wrong declaration is one line, whichever command reads it
        "datafixes.operations",
        "datafixes.running",
        "datafixes.running.redact_operations",
        "datafixes.running.refusal",
        "datafixes.running.table_operations",
    }
