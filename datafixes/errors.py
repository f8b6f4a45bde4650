"""Every way in which datafixes says no. Facts are attributes, so that nobody has to search the wording."""


class DatafixError(Exception):
    """Something cannot go on. One line says what failed, with the evidence; the hint says what to do.

    Attributes:
        message: what is wrong, in one line.
        detail: evidence that needs more than one line (a table of conflicts), or an empty string.
        hint: what to do next, where possible a command that can be pasted, or an empty string.
    """

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def one_line(self) -> str:
        """The message and the hint, without line breaks: what a pipeline's log shows last."""
        parts = (" ".join(part.split()) for part in (self.message, self.hint))
        return " ".join(_sentence(part) for part in parts if part)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":", ";")) else text + "."


class DeclarationError(DatafixError):
    """A fix is not a well-formed declaration. Raised in Python, before any database is asked."""


class SettingError(DatafixError):
    """A setting has a value that means nothing. The message names the setting and where the value came from."""


class DatabaseNotFound(DatafixError):
    """No place names a database. The message lists every place that was looked at, and what was wrong there."""


class DatabaseUnreachable(DatafixError):
    """The database is known, and does not answer. The message names host, port and where they came from."""


class VersionMoved(DatafixError):
    """Another run moved the version between two migrations of this one, which has to look again at what is left."""


class Refused(DatafixError):
    """The database refused a script, and nothing of it was kept.

    Attributes:
        sqlstate: the code that PostgreSQL or the engine gave; codes that begin with DF are the engine's own.
    """

    sqlstate = ""

    def __init__(self, message: str, *, detail: str = "", hint: str = "", sqlstate: str = "") -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.sqlstate = sqlstate or type(self).sqlstate


class WrongRevision(Refused):
    """The database is at another revision than the script is for."""

    sqlstate = "DF001"


class AppliedAlready(Refused):
    """The ledger says that this fix is in force."""

    sqlstate = "DF002"


class ContentChanged(Refused):
    """The name was used before, by a fix that is in force and declares something else."""

    sqlstate = "DF003"


class WrongTarget(Refused):
    """The target is missing, or not a table whose rows can be locked and copied."""

    sqlstate = "DF004"


class NoKey(Refused):
    """The key is not a unique one that is never null."""

    sqlstate = "DF005"


class ShapeMismatch(Refused):
    """A column is missing, or the audit table has not the shape of its target."""

    sqlstate = "DF006"


class RowsNotAsExpected(Refused):
    """The rows found are not the ones that the fix was written for."""

    sqlstate = "DF007"


class ChangeNotAsWanted(Refused):
    """The rows after the change are not as the fix wanted them."""

    sqlstate = "DF008"


class Conflicts(Refused):
    """Rows cannot be given back, because somebody changed them since. The detail is a table of them."""

    sqlstate = "DF009"


class NothingToRevert(Refused):
    """The ledger has no run of this fix that is in force."""

    sqlstate = "DF010"


class ImagesChanged(Refused):
    """The images in the audit table are not the ones that the run wrote."""

    sqlstate = "DF011"


class NotRestorable(Refused):
    """The table's shape or its triggers keep values from being given back to the bit."""

    sqlstate = "DF012"


class HoldsCopies(Refused):
    """An audit table or a ledger holds what cannot be had again."""

    sqlstate = "DF013"


class UnsafeTransaction(Refused):
    """The transaction is not one in which a fix can be all or nothing."""

    sqlstate = "DF014"


class OthersWouldChange(Refused):
    """Rows that refer to the fix's rows would be changed or deleted with them, without a copy."""

    sqlstate = "DF015"


class NotAsPlanned(Refused):
    """The rows are no longer the ones that the plan showed."""

    sqlstate = "DF016"


class LedgerVersion(Refused):
    """The ledger is newer than this package, or older and only its owner may bring it forward."""

    sqlstate = "DF017"


class SequenceBehind(Refused):
    """The sequence of the ledger or of an audit table would hand out numbers that rows have already."""

    sqlstate = "DF020"


class LockNotAvailable(Refused):
    """A lock was not to be had in time. The message names who holds it.

    Attributes:
        holders: one line for each session that stood in the way, as far as it could be seen.
    """

    sqlstate = "55P03"

    def __init__(self, message: str, *, hint: str = "", holders: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.holders = holders


class ConnectionLost(Refused):
    """The connection ended in the middle. The server undoes what was not committed."""

    sqlstate = "08006"


BY_SQLSTATE: dict[str, type[Refused]] = {
    kind.sqlstate: kind for kind in Refused.__subclasses__() if kind.sqlstate.startswith("DF")
}


def sqlstate(error: Exception) -> str:
    """The SQLSTATE of a driver's error that SQLAlchemy wrapped; empty where the server did not get to say one."""
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or ""
