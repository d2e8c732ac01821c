"""Where the database's errors are translated into ours."""

import asyncpg

from bridge.sdk.errors import PermanentFailure, TemporaryFailure

IS_AWAY = "the database is away: "
"""How the sentence of such a failure begins."""

AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # An admin has closed it, for a restore say.
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalClientError,  # A connection whose last question was cut off is still busy.
)
"""What asyncpg raises when the database is away, starting, stopping, full or broken."""

BUSY = (
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What passes by itself or by an admin's hand, once we are running."""


class NoTables(TemporaryFailure):
    """The day has no tables yet, or none any more."""


class _Door:
    """Has no state, so that one serves everybody: each question to the database goes through."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if error is not None:
            _translate(error)


def _translate(error: BaseException) -> None:
    """Raise ours for the database's; return for any other."""
    if isinstance(error, (*AWAY, *BUSY)):
        if isinstance(error, ValueError):  # asyncpg's word for a value that it cannot encode.
            raise PermanentFailure("it holds characters that cannot be stored") from error
        raise TemporaryFailure(f"{IS_AWAY}{first_line(error)}") from error
    if isinstance(error, asyncpg.DataError):
        raise PermanentFailure("it holds characters that cannot be stored") from error
    if isinstance(error, asyncpg.ProgramLimitExceededError):  # Of an index, say.
        raise PermanentFailure("it is too long to be stored") from error
    if isinstance(error, asyncpg.CheckViolationError) and "no partition" in str(error):
        raise NoTables("the tables of this day are not there yet") from error


_DOOR = _Door()


def at_the_door() -> _Door:
    """Translate a database that is away into ``TemporaryFailure``.

    A value that no column can hold is a ``PermanentFailure``: trying again would not help.
    """
    return _DOOR


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return (str(error) or type(error).__name__).splitlines()[0]
