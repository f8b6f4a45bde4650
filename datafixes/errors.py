"""Every error that datafixes raises. Facts are attributes, so callers need not search the wording."""

from dataclasses import dataclass


class DatafixError(Exception):
    """An operation failed. The message says what failed, with the evidence; the hint says what to do next.

    Attributes:
        message: what is wrong, in one line.
        detail: evidence that needs more than one line (a table of conflicts), or an empty string.
        hint: what to do next, if possible a command to paste, or an empty string.
    """

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def one_line(self) -> str:
        """The message and the hint, without line breaks: the last line of a pipeline's log."""
        parts = (" ".join(part.split()) for part in (self.message, self.hint))
        return " ".join(_sentence(part) for part in parts if part)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":", ";")) else text + "."


class DeclarationError(DatafixError):
    """The declaration of a fix is not valid. Raised in Python, before the database is used."""


class SettingError(DatafixError):
    """A setting has an invalid value. The message names the setting and the origin of the value."""


class DatabaseNotFound(DatafixError):
    """No database is configured. The message lists each place that was searched, and what was wrong there."""


class DatabaseUnreachable(DatafixError):
    """The database does not answer. The message names host and port, and where they came from."""


class VersionMoved(DatafixError):
    """Another run changed the version between two migrations of this run, which must recompute what is left."""


class Refused(DatafixError):
    """The database refused a script and rolled it back.

    Attributes:
        sqlstate: the code from PostgreSQL or the engine; codes that begin with DF are the engine's own.
    """

    sqlstate = ""

    def __init__(self, message: str, *, detail: str = "", hint: str = "", sqlstate: str = "") -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.sqlstate = sqlstate or type(self).sqlstate


class WrongRevision(Refused):
    """The database is not at the revision that the script is for."""

    sqlstate = "DF001"


class AppliedAlready(Refused):
    """The ledger says that this fix is in force."""

    sqlstate = "DF002"


class ContentChanged(Refused):
    """Another fix of the same name, with another declaration, is in force."""

    sqlstate = "DF003"


class WrongTarget(Refused):
    """The target does not exist, or is not a table whose rows can be locked and copied."""

    sqlstate = "DF004"


class NoKey(Refused):
    """The key is not unique, or can be null."""

    sqlstate = "DF005"


class ShapeMismatch(Refused):
    """A column is missing, or the audit table does not match its target."""

    sqlstate = "DF006"


class RowsNotAsExpected(Refused):
    """The rows found are not those that the fix was written for."""

    sqlstate = "DF007"


class ChangeNotAsWanted(Refused):
    """The rows after the change are not as the fix declares them."""

    sqlstate = "DF008"


class Conflicts(Refused):
    """Rows cannot be restored, because they changed since. The detail is a table of them."""

    sqlstate = "DF009"


class NothingToRevert(Refused):
    """No run of this fix is in force."""

    sqlstate = "DF010"


class ImagesChanged(Refused):
    """The images in the audit table are not those that the run wrote."""

    sqlstate = "DF011"


class NotRestorable(Refused):
    """The table's columns or its triggers prevent values from being restored exactly."""

    sqlstate = "DF012"


class HoldsCopies(Refused):
    """An audit table or a ledger holds data that cannot be recreated."""

    sqlstate = "DF013"


class UnsafeTransaction(Refused):
    """A fix cannot be atomic in this transaction."""

    sqlstate = "DF014"


class OthersWouldChange(Refused):
    """Rows that refer to the fix's rows would change too, without a copy."""

    sqlstate = "DF015"


class NotAsPlanned(Refused):
    """The rows have changed since the plan."""

    sqlstate = "DF016"


class LedgerVersion(Refused):
    """The ledger is newer than this package, or older and only its owner may upgrade it."""

    sqlstate = "DF017"


class SequenceBehind(Refused):
    """The sequence of the ledger or of an audit table would hand out numbers that rows already have."""

    sqlstate = "DF020"


class BatchesRefused(Refused):
    """The fix cannot run in batches, or a part of it is applied and something else is in the way."""

    sqlstate = "DF021"


class AppendOnly(Refused):
    """Somebody tried to change an audit table or a finished line of the ledger."""

    sqlstate = "DF030"


class CopiesGivenUp(Refused):
    """The copies that a revert needs were given up. The message says when, and by which run."""

    sqlstate = "DF031"


class NotRedactable(Refused):
    """Values of a run cannot be redacted now: it is not sealed, or its batches have not ended."""

    sqlstate = "DF032"


class Redacted(Refused):
    """A revert needs values that were redacted: the key or the identity of its rows."""

    sqlstate = "DF033"


class LockNotAvailable(Refused):
    """A lock was not available in time. The message names the sessions that hold it.

    Attributes:
        holders: one line for each blocking session that could be seen.
    """

    sqlstate = "55P03"

    def __init__(self, message: str, *, hint: str = "", holders: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.holders = holders


class ConnectionLost(Refused):
    """The connection was lost. The server rolls back the open transaction.

    Attributes:
        setting: the server's time limit that ended the session, or an empty string.
    """

    sqlstate = "08006"

    def __init__(self, message: str, *, hint: str = "", setting: str = "") -> None:
        super().__init__(message, hint=hint)
        self.setting = setting


BY_SQLSTATE: dict[str, type[Refused]] = {
    kind.sqlstate: kind for kind in Refused.__subclasses__() if kind.sqlstate.startswith("DF")
}


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a driver's error, or of SQLAlchemy's around it; empty if the server sent none."""
    original = getattr(error, "orig", None) or error
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or ""


@dataclass(frozen=True)
class Diagnosis:
    """What the server said of an error, whatever the driver; empty where it said nothing.

    Attributes:
        message: its message, on one line.
        detail: its detail.
        hint: its hint.
        context: where it happened.
        function: the function of the server that raised it.
        names: the constraint, the column and the table.
    """

    message: str
    detail: str = ""
    hint: str = ""
    context: str = ""
    function: str = ""
    names: tuple[str, ...] = ()


def diagnosis_of(error: BaseException) -> Diagnosis:
    """Read a driver's error, or SQLAlchemy's around it."""
    original = getattr(error, "orig", None) or error
    # What SQLAlchemy makes of asyncpg's errors holds no more than their text; the cause is asyncpg's own.
    own = original.__cause__ if original is not error else None
    said = getattr(original, "diag", None) or own

    def first(*names: str) -> str:
        return next((str(value) for name in names if (value := getattr(said, name, None))), "")

    names = (first(f"{what}_name") for what in ("constraint", "column", "table"))
    return Diagnosis(
        " ".join((first("message_primary", "message") or str(original)).split()),
        first("message_detail", "detail"),
        first("message_hint", "hint"),
        first("context"),
        first("source_function", "server_source_function"),
        tuple(name for name in names if name),
    )
