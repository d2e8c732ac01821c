"""The listener for whoever watches over Trestle."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.core.oversight.statuslines import in_lines
from bridge.demo.matrix_user import PATIENCE
from bridge.demo.processes import free_port
from bridge.doors.ops import OpsServer
from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError
from bridge.settings.records import Address, DatabaseSettings, OpsSettings
from bridge.storage.backup import back_up, last_backup
from bridge.storage.pool import Database
from bridge.telemetry import Telemetry
from tests.admin.watcher import Labels, Watcher
from tests.conformance.stage import (
    ALICE,
    DICE,
    ROOM,
    Play,
    ask,
    settings_for,
)
from tests.core.outgoing import say
from tests.rigs.cluster import Cluster
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver
from tests.rigs.service_manager import told_to
from tests.rigs.trestle import running

ASKED_FOR = {
    "transactions": "trestle_transactions_total",
    "events by closed type set": "trestle_events_total",
    "time to acknowledge": "trestle_acknowledge_seconds",
    "lanes": "trestle_lanes",
    "lane depth": "trestle_items_waiting",
    "age of the oldest unfinished item": "trestle_oldest_item_seconds",
    "end-to-end seconds per direction": "trestle_end_to_end_seconds",
    "sends by outcome": "trestle_sends_total",
    "parked": "trestle_parked_items",
    "module state": "trestle_module_state",
    "logins by state": "trestle_logins",
    "homeserver up": "trestle_homeserver_up",
    "homeserver reaches us": "trestle_reached_by_homeserver",
    "newest backup": "trestle_backup_timestamp_seconds",
    "room on the disk": "trestle_disk_free_bytes",
    "database up": "trestle_database_up",
}


async def test_every_metric_is_there_and_names_nobody(watched: tuple[Play, Watcher]) -> None:
    play, watcher = watched
    assert await play.put(ask("tea"), name="first") == 200
    assert await play.put(ask("tea"), name="first") == 200
    assert await play.heard() == ["tea"]
    async with play.homeserver.request(
        play.settings, "PUT", "/_matrix/app/v1/transactions/x", []
    ) as bad:
        assert bad.status == 400
    async with aiohttp.ClientSession() as session:
        url = f"http://{play.settings.appservice.listen}/_matrix/app/v1/transactions/y"
        async with session.put(url, headers={"Authorization": "Bearer wrong"}, json={}) as bad:
            assert bad.status == 403

    text = (await watcher.ask("/metrics"))[1]
    found = {family.name: family for family in text_string_to_metric_families(text)}
    for meaning, name in ASKED_FOR.items():
        assert name.removesuffix("_total") in found, meaning
    known = {one.name.removesuffix("_total"): one for one in play.app.parts.telemetry.documented}
    for name, family in found.items():
        assert family.documentation == known[name].help
        for sample in family.samples:
            _check_labels(sample.labels, known[name].labels)

    samples = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stranger in (ALICE, DICE, ROOM, "test.example", "127.0.0.1", "://", "@", "!", "$"):
        assert stranger not in samples


def _check_labels(given: Mapping[str, str], documented: Mapping[str, tuple[str, ...]]) -> None:
    labels = {name: value for name, value in given.items() if name != "le"}
    assert labels.keys() == documented.keys()
    for name, value in labels.items():
        assert value in (documented[name] or ("dice", "libera"))


async def test_the_numbers_tell_what_happened(watched: tuple[Play, Watcher]) -> None:
    play, watcher = watched

    def of(name: str, **labels: str) -> tuple[str, Labels]:
        return f"trestle_{name}", frozenset(labels.items())

    before = await watcher.values()
    assert before[of("transactions_total", outcome="accepted")] == 0  # There before the first.
    assert await play.put(ask("tea"), name="first") == 200
    assert await play.put(ask("tea"), name="first") == 200
    assert await play.heard() == ["tea"]
    now = await watcher.values()
    assert now[of("transactions_total", outcome="accepted")] == 2  # `heard` puts one of its own.
    assert now[of("transactions_total", outcome="repeated")] == 1
    assert now[of("events_total", type="message", source="transaction")] == 2
    assert now[of("acknowledge_seconds_count")] == 3
    assert now[of("sends_total", direction="to_matrix", outcome="sent")] >= 2
    assert now[of("database_up")] == 1
    await watcher.wait_for_value("trestle_homeserver_up", 1)
    assert now[of("parked_items", reason="refused")] == 0
    states = {
        dict(labels)["state"]: value
        for (name, labels), value in now.items()
        if name == "trestle_module_state" and ("instance", "libera") in labels
    }
    assert set(states) == {"starting", "running", "reconnecting", "stopped", "failed"}
    assert sum(states.values()) == 1


async def test_it_is_not_ready_while_the_database_is_away(
    watched: tuple[Play, Watcher], cluster: Cluster, database_settings: DatabaseSettings
) -> None:
    play, watcher = watched
    assert await watcher.ask("/live") == (200, '{"ok":true,"reason":""}')
    assert await watcher.ask("/ready") == (200, '{"ok":true,"reason":""}')
    async with _away(cluster, database_settings):
        body = await watcher.wait_for("/ready", 503)
        assert body == '{"ok":false,"reason":"the database is away"}'
        assert (await watcher.ask("/live"))[0] == 200  # Starting again would help nobody.
        seen = await play.app.parts.status.look()
        assert seen["database"].startswith("away: ")
        assert "parked: the database knows" in (lines := in_lines(seen))
        assert any(line.startswith("libera: ") for line in lines)
        await watcher.wait_for_value("trestle_database_up", 0)
    await watcher.wait_for("/ready", 200)
    assert await play.put(ask("all the same")) == 200


@asynccontextmanager
async def _away(cluster: Cluster, settings: DatabaseSettings) -> AsyncIterator[None]:
    """Have a database refuse everybody."""
    found = re.search(r"/(test_\d+)\?", settings.url)
    assert found is not None
    name = found[1]
    await cluster.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await cluster.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
    )
    try:
        yield
    finally:
        await cluster.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def test_a_homeserver_that_is_away_is_a_number_and_no_reason_to_start_again(
    watched: tuple[Play, Watcher],
) -> None:
    play, watcher = watched
    await watcher.wait_for_value("trestle_homeserver_up", 1)
    play.homeserver.rules.append(lambda asked: refuse(502, "M_UNKNOWN"))
    await play.app.parts.sender.put([say("tea")])
    await watcher.wait_for_value("trestle_homeserver_up", 0)
    assert (await watcher.ask("/ready"))[0] == 200
    assert (await watcher.ask("/live"))[0] == 200
    play.homeserver.rules.clear()
    await watcher.wait_for_value("trestle_homeserver_up", 1)
    assert play.homeserver.texts(ROOM) == ["tea"]


async def test_when_the_newest_backup_was_made_is_a_number(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    state, clock, port = folder / "state", SystemClock(), free_port()
    async with Database.open(database_settings, state, clock):
        pass
    for name in ("first", "second"):
        began = clock.now()
        await back_up(
            folder / name, database_settings, state, clock=clock, server_name="test.example"
        )
    made = last_backup(state)
    assert made is not None
    assert began < made < clock.now()
    async with scripted_homeserver() as homeserver, aiohttp.ClientSession() as session:
        settings = replace(
            settings_for(homeserver, database_settings, folder),
            ops=OpsSettings(listen=Address("127.0.0.1", port)),
        )
        async with running(settings):
            watcher = Watcher(session, port)
            await watcher.wait_for_value("trestle_backup_timestamp_seconds", made.timestamp())


async def test_a_homeserver_that_takes_what_we_send_and_does_not_reach_us_is_a_number_of_its_own(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    port = free_port()

    def cut(asked: Asked) -> Answer | None:
        return refuse(502, "M_CONNECTION_FAILED") if asked.parts[-1:] == ("ping",) else None

    async with scripted_homeserver() as homeserver, aiohttp.ClientSession() as session:
        homeserver.rules.append(cut)
        settings = replace(
            settings_for(homeserver, database_settings, folder),
            ops=OpsSettings(listen=Address("127.0.0.1", port)),
        )
        async with running(settings) as app:
            watcher = Watcher(session, port)
            await watcher.wait_for_value("trestle_homeserver_up", 1)
            reaches_us = "trestle_reached_by_homeserver", frozenset[tuple[str, str]]()
            assert (await watcher.values())[reaches_us] == 0
            assert await Play(homeserver, settings, app).heard() == []  # Its answer is there.
            tries = homeserver.pings
            await homeserver.wait_until(lambda: homeserver.pings > tries + 1)
            now = await watcher.values()
            assert (now["trestle_homeserver_up", frozenset()], now[reaches_us]) == (1, 0)
            assert now["trestle_disk_free_bytes", frozenset()] > 0
            assert now["trestle_backup_timestamp_seconds", frozenset()] == 0
            homeserver.rules.clear()
            await watcher.wait_for_value("trestle_reached_by_homeserver", 1)


async def test_after_a_restore_it_is_ready_once_the_rooms_could_be_looked_at(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with Database.open(database_settings, folder / "state", SystemClock()) as database:
        await database.core.execute("UPDATE instance_state SET generation = generation + 1")
    port = free_port()
    async with (
        scripted_homeserver() as homeserver, aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as group,
    ):  # fmt: skip
        refusal = [lambda asked: refuse(502, "M_UNKNOWN") if "messages" in asked.parts else None]
        homeserver.rules = refusal
        settings = replace(
            settings_for(homeserver, database_settings, folder),
            ops=OpsSettings(listen=Address("127.0.0.1", port)),
        )
        watcher = Watcher(session, port)

        async def look_while_it_waits() -> None:
            await homeserver.wait_until(lambda: bool(homeserver.of("GET", "rooms", ROOM)))
            async with asyncio.timeout(PATIENCE):
                while "after a restore the rooms" not in (await watcher.ask("/ready"))[1]:
                    await asyncio.sleep(0.02)
            assert (await watcher.ask("/ready"))[0] == 503
            assert (await watcher.ask("/live"))[0] == 200
            assert await homeserver.put(settings, [ask("tea")], "early") == 503
            async with homeserver.request(
                settings, "POST", "/_matrix/app/v1/ping", {}
            ) as answered:
                assert answered.status == 200
            refusal.clear()

        group.create_task(look_while_it_waits())
        manager = str(folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears, told_to(manager):
            hears.bind(manager)
            async with running(settings) as app:
                assert not refusal
                assert (await watcher.ask("/ready"))[0] == 200
                assert await homeserver.put(settings, [ask("tea")], "early") == 200
                assert await Play(homeserver, settings, app).heard() == ["tea"]
            hears.settimeout(5)
            assert hears.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=")


async def test_the_reason_is_in_the_answer_and_nothing_else_is_served() -> None:
    reasons: list[str | None] = ["starting", None]
    server = OpsServer(Address("127.0.0.1", 0), Telemetry(), ready=lambda: reasons[0])
    await server.start()
    try:
        assert server.address is not None
        async with aiohttp.ClientSession() as session:
            watcher = Watcher(session, server.address.port)
            assert await watcher.ask("/ready") == (503, '{"ok":false,"reason":"starting"}')
            reasons.pop(0)
            assert (await watcher.ask("/ready"))[0] == 200
            assert (await watcher.ask("/"))[0] == 404
            assert (await watcher.ask("/metrics", "POST"))[0] == 405
            second = OpsServer(server.address, Telemetry(), ready=lambda: None)
            with pytest.raises(ConfigError, match=r"^ops.listen: .* is taken by"):
                await second.start()
    finally:
        await server.stop()


async def test_it_can_be_switched_off() -> None:
    server = OpsServer(None, Telemetry(), ready=lambda: None)
    await server.start()
    assert server.address is None
    await server.stop()
