"""``trestle doctor``: what is wrong with this installation, each with the way out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.assembly import namespaces_of, protocols_of, split_modules
from bridge.matrix.client import PING_ERRORS, HomeserverClient, MatrixError
from bridge.matrix.receiver import Receiver
from bridge.matrix.registration import differences, read_registration, registration
from bridge.model import SystemClock, Transaction
from bridge.sdk.errors import ConfigError, TemporaryFailure, TrestleError
from bridge.settings import Settings
from bridge.storage.audit import Audit
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from bridge.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found: a sentence, with the mend if it is not well."""

    check: str
    ok: bool
    sentence: str


class Doctor:
    """Checks an installation that may be running or not."""

    def __init__(self, settings: Settings, registration_file: Path) -> None:
        self._settings = settings
        self._registration_file = registration_file

    async def examine(self) -> list[Finding]:
        """Run every check; none keeps another from running."""
        findings = [
            await self._try("modules", self._modules),
            await self._try("registration", self._registration),
            await self._try("database", self._database),
        ]
        async with (
            HomeserverClient(
                self._settings.homeserver.url, self._settings.appservice.as_token, timeout=15
            ) as client,
            self._answering() as answering,
        ):
            findings.append(await self._try("homeserver", lambda: self._versions(client)))
            if findings[-1].ok:
                findings.append(await self._try("token", lambda: self._whoami(client)))
                findings.append(await self._try("device_id", lambda: self._device(client)))
                findings.append(await self._try("ping", lambda: self._ping(client, answering)))
        return findings

    async def _try(self, check: str, run: Callable[[], Awaitable[str]]) -> Finding:
        try:
            async with asyncio.timeout(75):
                return Finding(check=check, ok=True, sentence=await run())
        except TimeoutError:
            return Finding(check=check, ok=False, sentence="it took too long")
        except TrestleError as error:
            return Finding(check=check, ok=False, sentence=str(error))

    async def _modules(self) -> str:
        networks, bots = split_modules(self._settings)
        protocols_of(self._settings)  # Checks the options of every network.
        names = ", ".join(sorted([*networks, *bots])) or "none is switched on"
        return f"modules: {names}"

    async def _registration(self) -> str:
        if not self._registration_file.exists():
            raise ConfigError(
                f"{self._registration_file} is not there; `trestle registration` writes it"
            )
        found = differences(
            read_registration(self._registration_file),
            registration(
                self._settings.appservice,
                namespaces_of(self._settings),
                protocols_of(self._settings),
            ),
        )
        if found:
            raise ConfigError(
                "; ".join(found) + ". `trestle registration` writes it anew; then restart the "
                "homeserver"
            )
        return "the registration says what the settings say"

    async def _database(self) -> str:
        settings = self._settings
        try:
            async with Database.open(
                settings.database, settings.state_dir, SystemClock()
            ) as database:
                version = await database.core.fetchval("SHOW server_version")
                difference = await database.time_difference()
                day_keys = DayKeys(settings.state_dir, SystemClock())
                faults = await Audit(database, day_keys, settings.state_dir).verify()
        except ConfigError as error:
            if "another Trestle is at work" in str(error):
                return "the database is in use by a running Trestle"
            raise
        if abs(difference) > 60:
            raise ConfigError(
                f"the database's clock is {difference:+.0f} s from ours; set the machines' clocks"
            )
        if faults:
            more = f", and {len(faults) - 1} more" if faults[1:] else ""
            raise ConfigError(
                f"{faults[0].what}{more}: somebody changed the database by hand, or it is an "
                "older copy"
            )
        return f"Postgres {version} answers, the schema is up to date, the audit is whole"

    async def _versions(self, client: HomeserverClient) -> str:
        try:
            reply = await client.versions()
        except (TemporaryFailure, MatrixError) as error:
            raise ConfigError(
                f"{error}. Is homeserver.url ({self._settings.homeserver.url}) right, as this "
                "machine reaches it?"
            ) from error
        versions = reply.get("versions")
        if not isinstance(versions, list) or not versions:
            raise ConfigError(
                f"what answers at {self._settings.homeserver.url} is no Matrix homeserver; "
                "homeserver.url is the base URL of its client API"
            )
        return f"the homeserver answers (Matrix {versions[-1]})"

    async def _whoami(self, client: HomeserverClient) -> str:
        try:
            reply = await client.whoami()
        except MatrixError as error:
            raise ConfigError(PING_ERRORS.get(error.errcode, str(error))) from error
        appservice = self._settings.appservice
        wanted = f"@{appservice.sender_localpart}:{self._settings.homeserver.server_name}"
        if reply.get("user_id") != wanted:
            raise ConfigError(
                f"the homeserver takes us for {reply.get('user_id')}, not {wanted}: "
                "homeserver.server_name or sender_localpart differ from what it has read"
            )
        return "the homeserver knows our token"

    async def _device(self, client: HomeserverClient) -> str:
        bot = namespaces_of(self._settings).bot
        try:
            reply = await client.whoami(bot, "TRESTLEDOCTOR")
        except MatrixError as error:
            if error.errcode == "M_UNKNOWN_DEVICE":
                return "device_id masquerading works: nothing is doubled by its restart"
            if error.errcode in {"M_FORBIDDEN", "M_UNKNOWN"}:
                return "not known before the first run: the bot has no account yet"
            raise
        if reply.get("device_id") == "TRESTLEDOCTOR":
            return "device_id masquerading works: nothing is doubled by its restart"
        return (
            "this homeserver lacks device_id masquerading (MSC4326): a message may be there twice "
            "after its restart"
        )

    async def _ping(self, client: HomeserverClient, answering: bool) -> str:
        try:
            milliseconds = await client.ping(self._settings.appservice.id)
        except MatrixError as error:
            raise ConfigError(PING_ERRORS.get(error.errcode, str(error))) from error
        who = "" if not answering else " (answered by this doctor: Trestle is not running)"
        return f"the homeserver reaches us in {milliseconds:.0f} ms{who}"

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[bool]:
        """Have somebody at the listener for the ping: the running Trestle, or we ourselves."""
        nobody = _Nobody()
        receiver = Receiver(self._settings.appservice, nobody, nobody, Telemetry())
        started = False
        with contextlib.suppress(ConfigError):
            await receiver.start()
            started = True
        try:
            yield started
        finally:
            if started:
                await receiver.stop()


class _Nobody:
    """Takes no transactions (the homeserver keeps them) and knows nobody."""

    async def accept(self, transaction: Transaction) -> None:
        raise TemporaryFailure("only a doctor is here")

    async def knows_user(self, user_id: str) -> bool:
        return False

    async def knows_alias(self, alias: str) -> bool:
        return False

    def protocol(self, name: str) -> None:
        return None

    async def find_users(self, protocol: str, fields: object) -> list[dict[str, object]]:
        return []

    async def find_locations(self, protocol: str, fields: object) -> list[dict[str, object]]:
        return []

    async def read_user(self, user_id: str) -> list[dict[str, object]]:
        return []

    async def read_location(self, alias: str) -> list[dict[str, object]]:
        return []
