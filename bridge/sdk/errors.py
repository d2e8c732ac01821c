"""What can go wrong, sorted by what happens next.

::

    TrestleError
      ConfigError             stop; print the path and the reason; exit 2
        NotNow                the same, and exit 75: it may be well the next time
      ModuleError
        ModuleNotReady        start again later, with backoff
        LoginRequired         stop this login; ask its owner to sign in again
      DeliveryError
        TemporaryFailure      keep the lane's order; try again after ``retry_after``
        PermanentFailure      park the item; tell the sender why
          Unsupported         the network has no such feature
        DeliveryUncertain     it may have arrived: per portal resend or hold, and say so

The message of each is a sentence for a person and holds no secret.
"""


class TrestleError(Exception):
    """Anything that Trestle raises on purpose."""


class ConfigError(TrestleError):
    """The settings cannot be used. ``path`` names the key, ``modules.libera.servers`` say."""

    def __init__(self, reason: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class NotNow(ConfigError):
    """What the settings name cannot be used at this moment: away, full, or somebody else's.

    A service manager is to try again (75 is ``EX_TEMPFAIL``).
    """


class ModuleError(TrestleError):
    """A module (or one login of it) came to an early end."""

    kind = ""
    """What kind of end, in a word or two that name nobody: of one person's login the log says
    no more than that. For example ``timeout``."""


class ModuleNotReady(ModuleError):
    """The network cannot be reached now; the host starts the client again, with backoff."""


class LoginRequired(ModuleError):
    """The network refused the account; the host stops the login and asks its owner."""


class DeliveryError(TrestleError):
    """A message did not get across."""


class TemporaryFailure(DeliveryError):
    """It can work later. The lane waits ``retry_after`` seconds (None: the host's backoff)."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class PermanentFailure(DeliveryError):
    """It can never work. The item is parked and the sender is told the reason."""


class TooLong(PermanentFailure):
    """The network does not take so long a text: where there is a public address, the core says
    its beginning and a link to all of it, else its sender is told."""


class Unsupported(PermanentFailure):
    """The network has no such feature."""


class DeliveryUncertain(DeliveryError):
    """It may have arrived. The portal's setting decides between sending again and holding."""
