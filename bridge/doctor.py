"""``trestle doctor``: what is wrong with this installation, each with the way out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.assembly import check_modules, namespaces_of, protocols_of, split_modules
from bridge.matrix.client import PING_ERRORS, HomeserverClient, MatrixError
from bridge.matrix.receiver import Receiver
from bridge.matrix.registration import differences, read_registration, registration
from bridge.model import SystemClock, Transaction
from bridge.ops import OpsServer
from bridge.sdk.errors import ConfigError, TemporaryFailure, TrestleError
from bridge.sdk.ids import UserId
from bridge.settings import Settings
from bridge.storage.audit import Audit
from bridge.storage.keys import DayKeys
from bridge.storage.masterkeys import MasterKeys
from bridge.storage.pool import Database
from bridge.storage.vault import Vault
from bridge.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found: a sentence, with the mend if it is not well."""

    check: str
    ok: bool
    sentence: str
    note: bool = False
    """It works, and yet the admin should know."""


class _Note(str):
    """A sentence about what works, and yet should be known."""

    __slots__ = ()


class Doctor:
    """Checks an installation that may be running or not."""

    def __init__(self, settings: Settings, registration_file: Path) -> None:
        self._settings = settings
        self._registration_file = registration_file
        self._is_running = False

    async def examine(self) -> list[Finding]:
        """Run every check; none keeps another from running."""
        findings: list[Finding] = []

        async def check(name: str, run: Callable[[], Awaitable[str]]) -> bool:
            findings.append(await self._try(name, run))
            return findings[-1].ok

        # What rests on something that is not well is left out: it would only say so again.
        if await check("modules", self._modules):
            await check("registration", self._registration)
        await check("database", self._database)
        async with (
            HomeserverClient(
                self._settings.homeserver.url, self._settings.appservice.as_token, timeout=15
            ) as client,
            self._answering() as refused,
        ):
            listens = await check("listener", lambda: self._listener(refused))
            if await check("homeserver", lambda: self._versions(client)) and await check(
                "token", lambda: self._whoami(client)
            ):
                await check("device_id", lambda: self._device(client))
                if listens:
                    await check("ping", lambda: self._ping(client))
        return findings

    async def _try(self, check: str, run: Callable[[], Awaitable[str]]) -> Finding:
        try:
            async with asyncio.timeout(75):
                sentence = await run()
        except TimeoutError:
            return Finding(check=check, ok=False, sentence="no end in 75 s; is a machine busy?")
        except TrestleError as error:
            return Finding(check=check, ok=False, sentence=str(error))
        return Finding(check=check, ok=True, sentence=sentence, note=isinstance(sentence, _Note))

    async def _modules(self) -> str:
        check_modules(self._settings)
        networks, bots = split_modules(self._settings)
        names = ", ".join(sorted([*networks, *bots]))
        return names or _Note("none is switched on; name some under `modules:`")

    async def _registration(self) -> str:
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
                await Vault(database, MasterKeys.load(settings.state_dir)).refuse_lost()
        except ConfigError as error:
            if "another Trestle is at work" in str(error):
                self._is_running = True
                return "in use by the Trestle that runs"
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

    async def _listener(self, refused: ConfigError | None) -> str:
        if refused is not None:
            if not self._is_running:
                raise refused
            return f"the Trestle that runs listens at {self._settings.appservice.listen}"
        if not self._is_running:
            ops = OpsServer(self._settings.ops.listen, Telemetry(), live=_well, ready=_well)
            await ops.start()
            await ops.stop()
        return f"{self._settings.appservice.listen} is free for Trestle"

    async def _versions(self, client: HomeserverClient) -> str:
        try:
            reply = await client.versions()
        except (TemporaryFailure, MatrixError) as error:
            if isinstance(error, MatrixError) and error.errcode == "M_UNKNOWN_TOKEN":
                return "the homeserver answers"  # And that it does not know us comes next.
            if isinstance(error, MatrixError) and error.status == 404:
                raise self._no_homeserver() from error
            raise ConfigError(
                f"{error}. Is homeserver.url ({self._settings.homeserver.url}) right, as this "
                "machine reaches it?"
            ) from error
        versions = reply.get("versions")
        if not isinstance(versions, list) or not versions:
            raise self._no_homeserver()
        return f"the homeserver answers (Matrix {versions[-1]})"

    def _no_homeserver(self) -> ConfigError:
        return ConfigError(
            f"what answers at {self._settings.homeserver.url} is no Matrix homeserver; "
            "homeserver.url is the base URL of its client API"
        )

    async def _whoami(self, client: HomeserverClient) -> str:
        try:
            reply = await client.whoami()
        except MatrixError as error:
            raise ConfigError(PING_ERRORS.get(error.errcode, str(error))) from error
        appservice = self._settings.appservice
        wanted = f"@{appservice.sender_localpart}:{self._settings.homeserver.server_name}"
        if reply.get("user_id") != wanted:
            raise ConfigError(
                f"the homeserver takes us for {reply.get('user_id')}, not {wanted}; "
                "homeserver.server_name or appservice.sender_localpart is not what it has read: "
                "put that right, or write the registration anew and restart the homeserver"
            )
        return "the homeserver knows our token"

    async def _device(self, client: HomeserverClient) -> str:
        appservice, homeserver = self._settings.appservice, self._settings.homeserver
        bot = UserId(f"@{appservice.bot_localpart}:{homeserver.server_name}")
        try:
            reply = await client.whoami(bot, "TRESTLEDOCTOR")
        except MatrixError as error:
            if error.errcode.endswith("M_UNKNOWN_DEVICE"):  # With the proposal's name before it.
                return "device_id masquerading works: nothing is doubled by its restart"
            if error.errcode in {"M_FORBIDDEN", "M_UNKNOWN"}:
                return "to be seen at the first run: the bot has no account yet"
            raise
        if reply.get("device_id") == "TRESTLEDOCTOR":
            return "device_id masquerading works: nothing is doubled by its restart"
        return _Note(
            "this homeserver lacks device_id masquerading (MSC4326): a message may be there twice "
            "after its restart. A newer one has it, Synapse from 1.141"
        )

    async def _ping(self, client: HomeserverClient) -> str:
        try:
            milliseconds = await client.ping(self._settings.appservice.id)
        except MatrixError as error:
            reason = PING_ERRORS.get(error.errcode, str(error))
            url = self._settings.appservice.url
            raise ConfigError(f"{reason} (appservice.url: {url})") from error
        who = "" if self._is_running else " (its answer came from here: Trestle does not run)"
        return f"the homeserver reaches us in {milliseconds:.0f} ms{who}"

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[ConfigError | None]:
        """Listen for the ping, unless the Trestle that runs does; give why we cannot."""
        nobody = _Nobody()
        receiver = Receiver(self._settings.appservice, nobody, nobody, Telemetry())
        refused = None
        try:
            await receiver.start()
        except ConfigError as error:
            refused = error
        try:
            yield refused
        finally:
            await receiver.stop()


def _well() -> None:
    """Nothing is wrong."""


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
