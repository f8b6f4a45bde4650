"""What Alembic loads of datafixes, and whether its autogenerate leaves audit tables and ledgers alone."""

import ast
import importlib.metadata
from fnmatch import fnmatchcase
from pathlib import Path

from datafixes.alembic_plugin import NAME
from datafixes.doctor.env_file import EnvFile, imports_the_operations, read_env
from datafixes.doctor.finding import Finding, attention, bad, good

_PLUGINS_SINCE = (1, 18)
_HOOK = "leave_audit_tables_alone"
_REMEDY = (
    f"import datafixes.environment, and context.configure(..., include_object=datafixes.environment.{_HOOK})"
)
_OLD_REMEDY = "import datafixes.operations"  # there, the import does what a plugin does


def alembic_version() -> tuple[int, ...]:
    """The installed Alembic."""
    parts = importlib.metadata.version("alembic").split(".")
    return tuple(int(part) for part in parts[:2] if part.isdecimal())


def plugin_is_installed() -> bool:
    """Whether Alembic can find the plugin by itself."""
    return any(one.name == NAME for one in importlib.metadata.entry_points(group="alembic.plugins"))


def check_plugin(env: EnvFile, version: tuple[int, ...], installed: bool) -> Finding:
    """Whether a revision finds ``op.apply_datafix``.

    Args:
        env: what was read of env.py.
        version: Alembic's, two numbers.
        installed: whether the entry point is there.
    """
    check, shown = "operations", ".".join(map(str, version))
    if imports_the_operations(env):
        return good(check, "env.py imports them.")
    if version >= _PLUGINS_SINCE and installed:
        return good(check, f"Alembic {shown} loads them by itself.")
    why = (
        "the entry point of datafixes is missing"
        if version >= _PLUGINS_SINCE
        else "it knows no plugins, and env.py does not import them"
    )
    return bad(
        check, f"Alembic {shown} does not load them: {why}.", "Add import datafixes.operations to env.py."
    )


def check_autogenerate(env: EnvFile, version: tuple[int, ...], installed: bool) -> Finding:
    """Whether autogenerate would drop audit tables and ledgers.

    Args:
        env: what was read of env.py.
        version: Alembic's, two numbers.
        installed: whether the entry point is there.
    """
    check = "env.py: autogenerate"
    if _HOOK in env.words or (env.ours and env.option("include_object") is None):
        return good(check, "Autogenerate leaves audit tables and ledgers alone.")
    if _has_no_metadata(env):
        return good(check, "It has no metadata, so autogenerate drops nothing.")
    asked = _is_asked(env, version, installed)
    if asked:
        return good(
            check, "Autogenerate leaves audit tables and ledgers alone, by the hook that Alembic has."
        )
    if asked is None or env.option("include_object") is not None or env.passes_on:
        return attention(
            check,
            f"It does not mention {_HOOK}: whether autogenerate would drop audit tables cannot be told.",
            f"Call datafixes.environment.{_HOOK} in its include_object, with the same arguments.",
        )
    remedy = _REMEDY if version >= _PLUGINS_SINCE else _OLD_REMEDY
    return bad(check, "Autogenerate would drop audit tables and ledgers, which no model declares.", remedy)


def warning_of(folder: Path) -> str:
    """What is said about autogenerate when a fix is written, checked or planned; empty where all is good.

    Args:
        folder: the directory of env.py.
    """
    try:
        env = read_env((folder / "env.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ""
    found = check_autogenerate(env, alembic_version(), plugin_is_installed()) if env.calls else None
    return f"{found.evidence} In env.py: {found.remedy}" if found and found.state == "bad" else ""


def _is_asked(env: EnvFile, version: tuple[int, ...], installed: bool) -> bool | None:
    """Whether autogenerate asks the hook; None: it cannot be told."""
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
