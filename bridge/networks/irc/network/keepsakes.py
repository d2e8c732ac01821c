"""What a login signs in with, and what its owner chose, which is kept beside it in the vault."""

from collections.abc import Mapping

from bridge.sdk.login import Login
from bridge.sdk.module import Host
from bridge.sdk.secret import Secret

NICK, AWAY, CERTIFICATE, AUTOCOMMAND = "nick", "away", "certificate", "autocommand"
MODES = "modes"
"""The user modes that the owner set or took: ``+i-w``."""
ACCOUNT, PASSWORD, SERVER_PASSWORD = "account", "password", "server_password"


class Keepsakes:
    """One login's secrets and choices, as they are now."""

    def __init__(self, login: Login, host: Host) -> None:
        self._host = host
        self._secrets = dict(login.secrets)

    def get(self, name: str) -> Secret | None:
        """Return a secret, None if there is none."""
        return self._secrets.get(name)

    def read(self, name: str) -> str:
        """Return a choice, empty if there is none."""
        secret = self._secrets.get(name)
        return "" if secret is None else secret.reveal()

    def named(self, prefix: str) -> Mapping[str, Secret]:
        """Return all whose names begin with the prefix, by what follows it."""
        return {
            name.removeprefix(prefix): one
            for name, one in self._secrets.items() if name.startswith(prefix)
        }  # fmt: skip

    async def keep(self, name: str, text: str) -> None:
        """Keep a choice over restarts; an empty one is forgotten. Raises ``TemporaryFailure``."""
        secret = Secret(text) if text else None
        await self._host.keep_secret(name, secret)
        if secret is None:
            self._secrets.pop(name, None)
        else:
            self._secrets[name] = secret
