"""Trestle itself, in this process or as a program, beside a real Synapse."""

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from bridge.app import App, run
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.demo.processes import free_port
from bridge.demo.synapse import Synapse
from bridge.matrix.registration import random_localpart, random_token, registration
from bridge.model import Clock, InstanceRules, Members, Permission
from bridge.running.roster import namespaces_of
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret
from bridge.settings.records import (
    Address,
    AppserviceSettings,
    DatabaseSettings,
    HomeserverSettings,
    LimitSettings,
    ModuleSettings,
    OpsSettings,
    Settings,
)
from tests.rigs.yaml import dump

SHOWING = InstanceRules(members=Members.FULL)
_SPARED = {"push": {"enabled": False}, "stats": {"enabled": False}}
"""Nobody here looks at these, and they cost a tenth of the homeserver's time for each message."""

_NUMBERS = itertools.count(1)


def make_settings(
    state_dir: Path,
    *,
    database: DatabaseSettings | None = None,
    homeserver_url: str = "http://127.0.0.1:9",
    modules: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None,
    permissions: Mapping[str, Permission] | None = None,
    **limits: Any,
) -> Settings:
    """Settings with fresh tokens and free ports. ``modules``: instance to (module, options)."""
    return Settings(
        homeserver=HomeserverSettings(url=homeserver_url, server_name="test.example"),
        appservice=AppserviceSettings(
            listen=Address("127.0.0.1", free_port()),
            as_token=Secret(random_token()),
            hs_tokens=(Secret(random_token()),),
            sender_localpart=random_localpart(),
        ),
        database=database or DatabaseSettings(),
        state_dir=state_dir,
        ops=OpsSettings(listen=None),
        permissions=permissions or {},
        modules=make_modules(modules or {}),
        limits=replace(LimitSettings(), **limits),
    )


def make_modules(
    modules: Mapping[str, tuple[str, Mapping[str, Any]]],
    rules: Mapping[InstanceId, InstanceRules] | None = None,
) -> dict[InstanceId, ModuleSettings]:
    """Module settings from instance to (module, options), and the core's rules of some.

    Rooms show everybody of a chat where nothing else is said.
    """
    return {
        InstanceId(name): ModuleSettings(
            instance=InstanceId(name), module=module, options=options,
            rules=(rules or {}).get(InstanceId(name), SHOWING),
        )
        for name, (module, options) in modules.items()
    }  # fmt: skip


@asynccontextmanager
async def running(
    settings: Settings, limit: float = 180, read_again: Callable[[], Settings] | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[App]:  # fmt: skip
    """Run Trestle in this process until the block ends, by the machine's clock or another.

    Raises why it did not start, and ``TimeoutError`` if it is not ready within the limit.
    """
    ready: asyncio.Future[App] = asyncio.get_running_loop().create_future()

    def note(app: App) -> None:
        if not ready.done():
            ready.set_result(app)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(settings, clock=clock, on_ready=note, read_again=read_again))
        try:
            first: set[asyncio.Future[Any]] = {task, ready}
            await asyncio.wait(first, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task  # Raises why it did not start.
            if not ready.done():
                raise TimeoutError(f"Trestle was not ready within {limit:g} s")
            yield ready.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@dataclass(slots=True)
class Town:
    """A homeserver whose registration is Trestle's, and people on it."""

    synapse: Synapse
    settings: Settings
    session: aiohttp.ClientSession

    async def person(self, name: str = "") -> MatrixUser:
        """Register somebody; names are made unique."""
        unique = f"{name or 'person'}{next(_NUMBERS)}"
        return await MatrixUser(self.session, self.synapse.url, unique).register()

    def settings_for(self, folder: Path, database: DatabaseSettings, **changes: Any) -> Settings:
        """Settings of a Trestle with its own database beside this homeserver."""
        return replace(self.settings, state_dir=folder / "state", database=database, **changes)


@asynccontextmanager
async def run_town(
    options: Mapping[str, Any] | None = None, *, double_puppets: bool = False,
    beside: Sequence[Path] = (), protocols: Sequence[str] = (),
) -> AsyncIterator[Town]:  # fmt: skip
    """Run a real Synapse that knows a registration for instances ``near``, ``far``, ``dice``.

    ``beside`` are registrations of others, ``protocols`` those of third-party lookups.
    """
    folder = Path(tempfile.mkdtemp(prefix="trestle-hs-"))
    folder.chmod(0o711)
    settings = make_settings(folder / "state")
    appservice = replace(settings.appservice, double_puppets=double_puppets)
    settings = replace(settings, appservice=appservice)
    file = folder / "registration.yaml"
    file.write_text(dump(registration(settings.appservice, namespaces_of(settings), protocols)))
    synapse = Synapse(
        folder, server_name="test.example", registrations=(file, *beside),
        options={**_SPARED, **(options or {})},
    )  # fmt: skip
    settings = replace(settings, homeserver=replace(settings.homeserver, url=synapse.url))
    try:
        await synapse.start()
        async with aiohttp.ClientSession() as session:
            yield Town(synapse, settings, session)
    finally:
        await synapse.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def deliver(settings: Settings, name: str, events: Sequence[Mapping[str, Any]]) -> None:
    """Put a transaction as the homeserver does; it must be taken."""
    appservice = settings.appservice
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            f"http://{appservice.listen}/_matrix/app/v1/transactions/{name}",
            json={"events": events},
            headers={"Authorization": f"Bearer {appservice.hs_tokens[0].reveal()}"},
        ) as response,
    ):
        assert response.status == 200


async def wait_until(condition: Callable[[], bool], limit: float = PATIENCE) -> None:
    """Return when the condition holds. Raises ``TimeoutError``."""
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.01)
