"""Runs the checks, in such an order that none merely repeats what another has said."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge.doctor.clocks import judge_clocks
from bridge.doctor.database import judge, left_to_its_user
from bridge.doctor.homeserver import (
    examine_accounts,
    examine_device,
    examine_token,
    examine_versions,
    greet,
)
from bridge.doctor.keys import examine_keys, judge_master_key
from bridge.doctor.listeners import answering, examine_listeners, reach_hints
from bridge.doctor.modules import examine_modules, examine_networks
from bridge.doctor.permissions import examine_permissions
from bridge.doctor.ping import examine_ping
from bridge.doctor.registration import (
    examine_double_puppets,
    examine_namespaces,
    examine_registration,
    judge_ephemeral,
)
from bridge.doctor.state import examine_state, judge_backup, judge_space
from bridge.doctor.surroundings import Surroundings
from bridge.matrix.client import HomeserverClient
from bridge.matrix.registration import registration
from bridge.running.roster import namespaces_of, protocols_of
from bridge.sdk.errors import TrestleError
from bridge.sdk.examination import Remark, bad, well
from bridge.settings.records import Settings
from bridge.storage.backup import last_backup
from bridge.storage.inspection import Looked, has_embedded_data, look, runs_in
from bridge.storage.pool import was_at_work

_LIMIT = 75.0
"""Seconds for one check; a homeserver gives a ping a minute."""
_Found = Remark | Sequence[Remark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found: a sentence, with the way out if it is not well."""

    check: str
    level: Literal["ok", "note", "bad"]
    """``note``: it works, but the admin should know."""
    sentence: str

    @property
    def ok(self) -> bool:
        """Whether it works."""
        return self.level != "bad"


class Doctor:
    """Checks an installation that may be running or not. Changes nothing in it.

    At the homeserver it makes the bots' accounts if the first start has not made them yet.
    """

    def __init__(
        self,
        settings: Settings,
        registration_file: Path,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._settings = settings
        self._registration_file = registration_file
        self._surroundings = surroundings or Surroundings()
        self._clock = self._surroundings.clock
        self._findings: list[Finding] = []
        self._is_running = False
        self._is_usable = False
        """The state directory is one."""
        self._looked: Looked | None = None
        self._versions: Sequence[str] = ()

    async def examine(self) -> list[Finding]:
        """Run every check; none keeps another from running."""
        self._findings = []
        settings, check = self._settings, self._check
        # A check that rests on something that is not well is left out: it would only repeat that.
        await check("state_dir", self._state)
        if self._is_usable:
            await check("keys", lambda: examine_keys(
                settings.state_dir, self._clock, is_running=self._is_running
            ))  # fmt: skip
        await check("permissions", lambda: examine_permissions(settings))
        modules = await check("modules", lambda: examine_modules(settings))
        if modules:
            await check("networks", lambda: examine_networks(settings))
            await check("registration", lambda: examine_registration(
                self._registration_file,
                registration(
                    settings.appservice, namespaces_of(settings), protocols_of(settings)
                ),
            ))  # fmt: skip
        if self._is_usable:
            await check("database", self._database)
        if self._looked is not None and self._looked.facts.schema:
            await check("backup", lambda: judge_backup(
                last_backup(settings.state_dir), self._clock.now()
            ))  # fmt: skip
        await self._homeserver(with_modules=modules)
        return self._findings

    async def _homeserver(self, *, with_modules: bool) -> None:
        settings, appservice, check = self._settings, self._settings.appservice, self._check
        greeting = await greet(settings.homeserver.url, self._clock)
        differences = {
            "the database": self._looked.facts.difference if self._looked else None,
            "the homeserver": greeting.difference if greeting else None,
        }
        is_running, in_container = self._is_running, self._surroundings.in_container
        await check("clocks", lambda: judge_clocks(differences))
        async with (
            HomeserverClient(settings.homeserver.url, appservice.as_token, timeout=15) as client,
            answering(appservice) as refused,
        ):
            listens = await check("listener", lambda: examine_listeners(
                settings, refused, is_running=is_running, in_container=in_container
            ))  # fmt: skip

            async def versions() -> Remark:
                sentence, self._versions = await examine_versions(
                    client, settings, greeting, self._clock
                )
                return well(sentence)

            if not await check("homeserver", versions):
                return
            if not await check("token", lambda: examine_token(client, settings)):
                return
            await self._known(client, with_modules=with_modules)
            if listens:
                hints = reach_hints(appservice, in_container=in_container)
                await check("ping", lambda: examine_ping(
                    client, appservice, hints, is_running=is_running
                ))  # fmt: skip

    async def _known(self, client: HomeserverClient, *, with_modules: bool) -> None:
        """What can be asked once the homeserver knows us."""
        check, appservice = self._check, self._settings.appservice
        await check("accounts", lambda: examine_accounts(client))
        if with_modules:
            spaces, server = namespaces_of(self._settings), self._settings.homeserver.server_name
            if await check("namespaces", lambda: examine_namespaces(client, appservice, spaces)):
                await check("device_id", lambda: examine_device(client, spaces.bot))
                await check(
                    "double_puppets", lambda: examine_double_puppets(client, appservice, server)
                )
        if self._versions and self._is_well("registration"):
            await check(
                "ephemeral", lambda: judge_ephemeral(self._registration_file, self._versions)
            )

    def _state(self) -> Sequence[Remark]:
        self._is_running = runs_in(self._settings.state_dir)
        found = examine_state(self._settings.state_dir, self._surroundings)
        self._is_usable = True
        return found

    async def _database(self) -> Sequence[Remark]:
        settings, is_embedded = self._settings, self._settings.database.url == "embedded"
        here = settings.state_dir
        if is_embedded and not has_embedded_data(here) and not was_at_work(here):
            return [well("the embedded database will be made at the first start")]
        if is_embedded and not self._is_running and (left := left_to_its_user(here)):
            return left
        self._looked = looked = await look(
            settings.database, settings.state_dir, self._clock, is_running=self._is_running
        )
        found = [*judge(looked, is_running=self._is_running, is_embedded=is_embedded)]
        directory = looked.facts.data_directory
        if directory is not None and directory.exists():
            free = self._surroundings.free_bytes(directory)
            found += judge_space("the database", directory, free)
        found += judge_master_key(settings.state_dir, os.environ, has_secrets=looked.has_secrets)
        return found

    async def _check(self, name: str, run: Callable[[], _Found | Awaitable[_Found]]) -> bool:
        """Run a check, and say whether what rests on it can be looked at."""
        try:
            async with asyncio.timeout(_LIMIT):
                found = run()
                remarks = await found if isinstance(found, Awaitable) else found
        except TimeoutError:
            remarks = [bad(f"not finished after {_LIMIT:.0f} s; is a machine overloaded?")]
        except TrestleError as error:
            remarks = [bad(str(error))]
        except OSError as error:
            what = error.filename or "something"
            remarks = [bad(f"{what} cannot be looked at: {error.strerror}; run this as the user "
                           "that runs Trestle")]  # fmt: skip
        except Exception as error:  # noqa: BLE001 - none keeps another from running
            # Its text may hold what nobody should read.
            remarks = [bad(f"this check itself failed ({type(error).__name__}); please report it")]
        findings = [
            Finding(check=name, level=one.level, sentence=one.sentence)
            for one in ([remarks] if isinstance(remarks, Remark) else remarks)
        ]
        self._findings += findings
        return all(one.ok for one in findings)

    def _is_well(self, check: str) -> bool:
        return all(finding.ok for finding in self._findings if finding.check == check)
