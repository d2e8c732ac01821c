"""A room is untied whole, or can be untied again."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from bridge.core.traffic.doorway import Doorway
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.consents import ConsentStore
from bridge.storage.policies import PolicyStore
from tests.conformance.stage import ALICE, ROOM, Play, ask, play
from tests.flow.networks import connected, irc_module
from tests.flow.scripted import follow_a_list
from tests.rigs import vivid_bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import Answer, Asked, refuse
from tests.rigs.trestle import wait_until
from tests.rigs.vivid_bridge import VividClient


async def say_slowly(stage: Play, room: str, text: str) -> asyncio.Event:
    """Have Alice say something whose name the homeserver does not give before the event."""
    held, gate = [], asyncio.Event()

    def hold(asked: Asked) -> asyncio.Event | None:
        if asked.method != "GET" or ALICE not in asked.parts:
            return None
        held.append(asked.path)
        return gate

    stage.homeserver.hold = hold
    content = {"msgtype": "m.text", "body": text}
    assert await stage.put(ask("slow", room, content=content)) == 200
    await wait_until(lambda: bool(held))
    return gate


async def end_and_bridge_anew(stage: Play, door: Doorway) -> None:
    """What its operators ended a day ago is no ended bridge when the room is tied again."""
    parts, portal = stage.app.parts, door.portal
    consents, near = parts.consents, parts.instances[portal.instance]
    store = ConsentStore(parts.database)
    # People say it, and the settings.
    for bridge in (consents.bridge, parts.plumbing.bridge, consents.bridge):
        again = await bridge(near, portal.chat_name, portal.room, UserId(ALICE))
        assert isinstance(again, Doorway)
        assert await store.find(near.name, portal.chat) is None
        await consents.withdraw(again, UserId(ALICE), "enough")
        consents.untie_soon(again)
        await wait_until(lambda: parts.portals.find(near.name, portal.chat) is None)
        assert await store.find(near.name, portal.chat) is not None
        with pytest.raises(PermanentFailure, match="have said no"):
            await bridge(near, portal.chat_name, portal.room, UserId(ALICE))
        now = parts.database.clock.now()
        await parts.database.core.execute("UPDATE consent SET until = $1", now)


async def end_with_bans(stage: Play, operator: IrcUser, door: Doorway) -> None:
    """As long as the relay is there, it takes back the bans that came of policy lists."""
    parts, portal = stage.app.parts, door.portal
    near, chat = parts.instances[portal.instance], portal.chat_name
    again = await parts.plumbing.bridge(near, chat, portal.room, UserId(ALICE))
    await follow_a_list(parts, again, operator)
    await parts.consents.withdraw(again, UserId(ALICE), "enough")
    parts.consents.untie_soon(again)
    await operator.expect(f"MODE {chat} -b", "spam*!*@*")
    await wait_until(lambda: parts.portals.find(near.name, portal.chat) is None)


async def test_who_unbridges_a_room_twice_at_once_does_not_untie_what_was_bridged_meanwhile(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    deletions, gate = list[str](), asyncio.Event()

    def hold_the_second(asked: Asked) -> asyncio.Event | None:
        if asked.method != "DELETE":
            return None
        deletions.append(asked.path)
        return gate if len(deletions) == 2 else None

    with vivid_bridge.installed():
        async with play(database_settings, folder, modules={"near": ("vivid", {})}) as stage:
            stage.homeserver.hold = hold_the_second
            parts = stage.app.parts
            near = parts.instances[InstanceId("near")]
            await wait_until(lambda: near.relay is not None)
            door = await parts.plumbing.bridge(near, "hall", RoomId(ROOM), UserId(ALICE))
            async with asyncio.TaskGroup() as group:
                both = [
                    group.create_task(parts.plumbing.unbridge(door, UserId(ALICE))) for _ in "ab"
                ]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                again = await parts.plumbing.bridge(near, "hall", RoomId(ROOM), UserId(ALICE))
                gate.set()
            assert parts.portals.find(near.name, again.portal.chat) is again
            assert parts.portals.all == [again]


class Clumsy(VividClient):
    """A client that fails when it is to leave a chat, or to look for bans."""

    failure: type[BaseException] = RuntimeError

    async def join(self, chat: RemoteChat) -> None:
        pass

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        raise self.failure

    def seen(self, chat: RemoteChatId) -> Collection[UserId]:
        return ()

    async def find_bans(self, chat: RemoteChat, patterns: Sequence[str]) -> Sequence[str]:
        raise self.failure

    async def change_bans(self, chat: RemoteChat, add: Sequence[str], lift: Sequence[str]) -> None:
        raise self.failure


class Tangled(Clumsy):
    """It lets what it cancelled itself through."""

    failure = asyncio.CancelledError


@pytest.mark.parametrize("client", [Clumsy, Tangled])
async def test_a_module_that_fails_at_it_ends_neither_the_program_nor_what_unties_rooms(
    database_settings: DatabaseSettings, folder: Path, client: type[Clumsy]
) -> None:
    with vivid_bridge.installed() as network:
        network.client = client
        async with play(database_settings, folder, modules={"near": ("vivid", {})}) as stage:
            parts = stage.app.parts
            near = parts.instances[InstanceId("near")]
            await wait_until(lambda: near.relay is not None)
            for chat in ("hall", "den"):
                door = await parts.plumbing.bridge(near, chat, RoomId(ROOM), UserId(ALICE))
                await PolicyStore(parts.database).add_bans(door.portal.id, ["spam*"])
                await parts.policies.load()
                await parts.consents.withdraw(door, UserId(ALICE), "enough")
                parts.consents.untie_soon(door)
                await wait_until(lambda: not parts.portals.all)


async def test_what_the_homeserver_cut_off_is_done_whole_the_next_time(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    failed: list[str] = []

    def fail_once(asked: Asked) -> Answer | None:
        if asked.method != "DELETE" or failed:
            return None
        failed.append(asked.path)
        return refuse(500, "M_UNKNOWN")

    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "watcher") as watcher,
        play(database_settings, folder, rules=[fail_once], modules=irc_module(irc)) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        near = parts.instances[InstanceId("near")]
        await watcher.join("#half")
        await connected(near)
        door, _ = await parts.plumbing.open_room(near, "#half")
        watcher.say("PRIVMSG #half :a ghost comes in")
        await homeserver.wait_until(
            lambda: "a ghost comes in" in homeserver.texts(door.portal.room)
        )
        assert homeserver.aliases
        with pytest.raises(TemporaryFailure):
            await parts.plumbing.unbridge(door, UserId(ALICE))
        assert parts.portals.find(near.name, door.portal.chat) is door
        # A message that is on its way meanwhile brings nobody back into the channel.
        gate = await say_slowly(stage, door.portal.room, "too late")
        await parts.plumbing.unbridge(door, UserId(ALICE))
        gate.set()
        tasks = asyncio.all_tasks
        await wait_until(lambda: door.name not in {one.get_name() for one in tasks()})
        assert parts.portals.find(near.name, door.portal.chat) is None
        assert not homeserver.aliases
        await watcher.expect(" PART #half")
        await end_and_bridge_anew(stage, door)
        await end_with_bans(stage, watcher, door)
        # Nor does the relay stay where no room could be made.
        await watcher.join("#never")
        homeserver.rules.append(
            lambda asked: refuse(500, "M_UNKNOWN") if asked.parts == ("createRoom",) else None
        )
        with pytest.raises(TemporaryFailure):
            await parts.plumbing.open_room(near, "#never")
        await watcher.expect(" PART #never")
        assert not any("too late" in line for line in watcher.heard)
        members = homeserver.rooms[door.portal.room]
        await homeserver.wait_until(lambda: members == {parts.namespaces.bot})
