"""Whoever leaves a room leaves its chat, and holds up nobody who stays."""

from pathlib import Path

from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, ROOM, ask, play
from tests.rigs.scripted_homeserver import SERVER
from tests.rigs.trestle import wait_until
from tests.rigs.vivid_bridge import Vivid, VividClient

BEA = f"@bea:{SERVER}"


class Unreachable(VividClient):
    """A client that can be told to leave no chat, as one that is not connected."""

    async def join(self, chat: RemoteChat) -> None:
        pass

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        raise TemporaryFailure("not connected", retry_after=3600)


async def test_whose_connection_is_away_holds_up_nobody_by_leaving_the_room(
    database_settings: DatabaseSettings, folder: Path, vivid: Vivid
) -> None:
    vivid.client = Unreachable
    async with play(database_settings, folder, modules={"near": ("vivid", {})}) as stage:
        parts = stage.app.parts
        near = parts.instances[InstanceId("near")]
        await wait_until(lambda: near.is_open)
        await parts.plumbing.bridge(near, "hall", RoomId(ROOM), UserId(ALICE))
        await stage.put(ask("1", content={"msgtype": "m.text", "body": "hello"}))
        await vivid.wait_until(lambda network: network.texts() == ["hello"])
        left = ask("2", type="m.room.member", state_key=ALICE, content={"membership": "leave"})
        said = ask("3", content={"msgtype": "m.text", "body": "is anybody here?"}, sender=BEA)
        await stage.put(left, said)
        await vivid.wait_until(lambda network: len(network.texts()) == 2)
