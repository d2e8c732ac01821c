"""Of whom a chat takes nothing: of a person, or of all of a homeserver."""

import asyncio
from pathlib import Path

import pytest

from bridge.core.permissions.blocks import Blocks
from bridge.core.portals.portals import Portals
from bridge.model import SystemClock
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RemoteChatId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.consents import BlockStore
from bridge.storage.pool import Database
from tests.core.ground import ALICE, CHAT, NEAR, Ground

TEA = RemoteChatId("#tea")


async def test_a_homeservers_block_holds_in_whatever_letters_and_a_persons_as_it_is_written(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with Database.open(database_settings, folder, SystemClock()) as database:
        blocks = Blocks(BlockStore(database))
        await blocks.add(NEAR, TEA, "evil.example")
        await blocks.add(NEAR, TEA, "@Bad:ok.example")
        for one in ("@x:evil.example", "@x:EVIL.example", "@Bad:ok.example"):
            assert blocks.cover(NEAR, TEA, UserId(one)), one
        for one in ("@bad:ok.example", "@x:ok.example", "@x:not-evil.example"):
            assert not blocks.cover(NEAR, TEA, UserId(one)), one


async def test_a_homeservers_block_holds_for_each_of_its_ports_unless_it_names_one(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with Database.open(database_settings, folder, SystemClock()) as database:
        blocks = Blocks(BlockStore(database))
        for whom in ("evil.example", "half.example:8448", "[2001:db8::1]"):
            await blocks.add(NEAR, TEA, whom)
        for one in ("@x:evil.example:8448", "@x:half.example:8448", "@x:[2001:db8::1]:8448"):
            assert blocks.cover(NEAR, TEA, UserId(one)), one
        for one in ("@x:half.example", "@x:half.example:80", "@x:[2001:db8::2]:8448"):
            assert not blocks.cover(NEAR, TEA, UserId(one)), one


async def test_what_was_on_its_way_when_somebody_was_blocked_is_not_said(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    ground = Ground()
    door = Portals(ground.house)._open(ground.portal)
    async with Database.open(database_settings, folder, SystemClock()) as database:
        ground.house.blocks = Blocks(BlockStore(database))
        door.voices.check(ALICE)
        await ground.house.blocks.add(NEAR, CHAT, "test.example")
        with pytest.raises(TemporaryFailure, match="ended meanwhile"):
            door.voices.check(ALICE)


async def test_blocks_and_lifts_of_the_same_moment_are_held_as_they_are_stored(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with Database.open(database_settings, folder, SystemClock()) as database:
        blocks = Blocks(BlockStore(database))
        for number in range(50):
            whom = f"@bad{number}:ok.example"
            async with asyncio.TaskGroup() as group:
                for change in (blocks.add, blocks.remove) * 2:
                    group.create_task(change(NEAR, TEA, whom))
        assert blocks.of(NEAR, TEA) == []
        assert await BlockStore(database).all() == set()


async def test_a_block_outlasts_a_restart_until_it_is_lifted(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with Database.open(database_settings, folder, SystemClock()) as database:
        store, other = BlockStore(database), RemoteChatId("#other")
        for chat, whom in ((TEA, "@bad:ok.example"), (TEA, "evil.example"), (other, "x.example")):
            await Blocks(store).add(NEAR, chat, whom)
        blocks = Blocks(store)
        await blocks.load()
        assert blocks.of(NEAR, TEA) == ["@bad:ok.example", "evil.example"]
        await blocks.remove(NEAR, TEA, "evil.example")
        again = Blocks(store)
        await again.load()
        for one in (blocks, again):
            assert one.of(NEAR, TEA) == ["@bad:ok.example"]
            assert one.of(NEAR, other) == ["x.example"]
