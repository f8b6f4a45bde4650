"""Sends text verbatim through drivers that look for parameters in it."""

from sqlalchemy.engine import Connection


def verbatim(connection: Connection, statement: str) -> str:
    """The text for ``exec_driver_sql``, so that the server receives ``statement``.

    Drivers with the paramstyles format and pyformat read ``%%`` as ``%``, with or without parameters.
    """
    return (
        statement.replace("%", "%%") if connection.dialect.paramstyle in ("format", "pyformat") else statement
    )
