"""Whether Alembic loads the operations, and whether autogenerate ignores audit tables and ledgers."""

import ast
import importlib.metadata
from fnmatch import fnmatchcase
from pathlib import Path

from datafixes.alembic_plugin import NAME
from datafixes.doctor.env_file import EnvFile, imports_the_operations, read_env
from datafixes.report.document import Fact, attention, bad, good

_PLUGINS_SINCE = (1, 18)
_HOOK = "leave_audit_tables_alone"
_REMEDY = (
    f"import datafixes.environment, and context.configure(..., include_object=datafixes.environment.{_HOOK})"
)
_OLD_REMEDY = "import datafixes.operations"  # before plugins, the import registers the operations


def alembic_version() -> tuple[int, ...]:
    """The installed Alembic."""
    parts = importlib.metadata.version("alembic").split(".")
    return tuple(int(part) for part in parts[:2] if part.isdecimal())


def plugin_is_installed() -> bool:
    """Whether Alembic can find the plugin."""
    return any(one.name == NAME for one in importlib.metadata.entry_points(group="alembic.plugins"))


def check_plugin(env: EnvFile, version: tuple[int, ...], installed: bool) -> Fact:
    """Whether a revision finds ``op.apply_datafix``.

    Args:
        env: the parsed env.py.
        version: Alembic's, two numbers.
        installed: whether the entry point is installed.
    """
    check, shown = "operations", ".".join(map(str, version))
    if imports_the_operations(env):
        return good(check, "env.py imports them.")
    if version >= _PLUGINS_SINCE and installed:
        return good(check, f"Alembic {shown} loads them.")
    why = (
        "the entry point of datafixes is missing"
        if version >= _PLUGINS_SINCE
        else "it has no plugins, and env.py does not import them"
    )
    return bad(
        check, f"Alembic {shown} does not load them: {why}.", "Add import datafixes.operations to env.py."
    )


def check_autogenerate(env: EnvFile, version: tuple[int, ...], installed: bool, used: bool) -> Fact:
    """Whether autogenerate would drop audit tables and ledgers.

    Args:
        env: the parsed env.py.
        version: Alembic's, two numbers.
        installed: whether the entry point is installed.
        used: whether the project has fixes, or audit tables.
    """
    check = "env.py: autogenerate"
    if _HOOK in env.words or (env.ours and env.option("include_object") is None):
        return good(check, "Autogenerate ignores audit tables and ledgers.")
    if _has_no_metadata(env):
        return good(check, "env.py has no metadata, so autogenerate drops nothing.")
    asked = _is_asked(env, version, installed)
    if asked:
        return good(check, "Autogenerate ignores audit tables and ledgers, through Alembic's own hook.")
    if asked is None or env.option("include_object") is not None or env.passes_on:
        return attention(
            check,
            f"env.py does not mention {_HOOK}, so autogenerate may drop audit tables.",
            f"Call datafixes.environment.{_HOOK} in its include_object, with the same arguments.",
        )
    remedy = _REMEDY if version >= _PLUGINS_SINCE else _OLD_REMEDY
    if not used:
        return attention(
            check,
            "Once there are audit tables, autogenerate would drop them: no model declares them.",
            remedy,
        )
    return bad(check, "Autogenerate would drop audit tables and ledgers, which no model declares.", remedy)


def warning_of(folder: Path) -> str:
    """The warning about autogenerate where fixes are written, checked or planned; empty if all is good.

    Args:
        folder: the directory of env.py.
    """
    try:
        env = read_env((folder / "env.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ""
    found = check_autogenerate(env, alembic_version(), plugin_is_installed(), True) if env.calls else None
    return f"{found.text} In env.py: {found.remedy}" if found and found.state == "bad" else ""


def _is_asked(env: EnvFile, version: tuple[int, ...], installed: bool) -> bool | None:
    """Whether autogenerate calls the hook; None: unknown."""
    if version < _PLUGINS_SINCE:
        return imports_the_operations(env)
    given = env.option("autogenerate_plugins")
    if not installed or given is None:
        return installed
    try:
        names = [str(one) for one in ast.literal_eval(given)]
    except (ValueError, TypeError):
        return None
    left_out = any(fnmatchcase(NAME, one[1:]) for one in names if one.startswith("~"))
    return not left_out and any(fnmatchcase(NAME, one) for one in names)


def _has_no_metadata(env: EnvFile) -> bool:
    given = env.option("target_metadata")
    if given is None:
        return not env.passes_on
    if isinstance(given, ast.Constant):
        return given.value is None
    values = [
        node.value
        for node in ast.walk(env.tree)
        if isinstance(node, ast.Assign)
        and isinstance(given, ast.Name)
        and any(isinstance(target, ast.Name) and target.id == given.id for target in node.targets)
    ]
    return bool(values) and all(isinstance(one, ast.Constant) and one.value is None for one in values)
