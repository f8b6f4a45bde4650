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
