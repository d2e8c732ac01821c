"""What is cut off when a room is tied, or when its bridge moves, is done whole the next time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.model import SystemClock
from bridge.running.parts import Parts
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, LoginId, RemoteChatId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, play, settings_for
from tests.core.outgoing import say
from tests.flow.networks import NEAR, connected, irc_module
from tests.flow.rooms import BOT
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import (
    SERVER,
    Answer,
    Asked,
    ScriptedHomeserver,
    refuse,
    scripted_homeserver,
)
from tests.rigs.trestle import running, wait_until

OLD, NEW, OWN = RoomId(f"!old:{SERVER}"), RoomId(f"!new:{SERVER}"), RoomId(f"!own:{SERVER}")
LEVELS = {"users": {ALICE: 100, BOT: 100}}


class Rooms:
    """What stands in the rooms; one question fails once."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], dict[str, Any]] = {
            (room, "m.room.power_levels"): LEVELS for room in (OLD, NEW, OWN)
        }
        self.parts: Parts
        self.fails = ""
        """What fails: the power levels, or who is in the old room once the bridge has moved."""

    def __call__(self, asked: Asked) -> Answer | None:
        if asked.method != "GET" or asked.parts[:1] != ("rooms",):
            return None
        room, what = asked.parts[1], asked.parts[2:4]
        if self.fails and self.fails in asked.path and (what[0] == "state" or self._has_moved()):
            self.fails = ""
            return refuse(500, "M_UNKNOWN")
        content = self.states.get((room, what[-1]))
        if content is None:
            return None
        if asked.query.get("format") != "event":
            return Answer(content=content)
        now_ms = int(SystemClock().now().timestamp() * 1000)
        return Answer(content={"sender": ALICE, "origin_server_ts": now_ms, "content": content})

    def _has_moved(self) -> bool:
        return bool(self.parts.portals.in_room(NEW))


class Unknown:
    """Does not know us when it is asked for certain things, once each."""

    def __init__(self, *places: tuple[str, ...]) -> None:
        self.left = list(places)

    def __call__(self, asked: Asked) -> Answer | None:
        for place in self.left:
            if asked.parts[: len(place)] == place:
                self.left.remove(place)
                return refuse(401, "M_UNKNOWN_TOKEN")
        return None


def published(homeserver: ScriptedHomeserver, room: str) -> list[str]:
    """Who asked for the bridge, by the states of the room; empty where it tells of none."""
    asked = homeserver.of("PUT", "rooms", room, "state", "m.bridge")
    return [one.content.get("creator", "") for one in asked]


def replace_old(rooms: Rooms) -> dict[str, Any]:
    """Have the old room replaced, as both rooms say; give the event."""
    rooms.states[OLD, "m.room.tombstone"] = {"replacement_room": NEW}
    rooms.states[NEW, "m.room.create"] = {"predecessor": {"room_id": OLD}, "room_version": "11"}
    return {
        "type": "m.room.tombstone", "state_key": "", "room_id": OLD, "sender": ALICE,
        "event_id": "$tombstone", "origin_server_ts": 1, "content": {"replacement_room": NEW},
    }  # fmt: skip


async def test_a_move_that_a_restart_cut_off_is_finished_and_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    rooms, ghost = Rooms(), f"@_trestle_near_carl:{SERVER}"
    moved = "The bridge to #pier on near has moved here."

    def is_away(asked: Asked) -> Answer | None:
        is_question = asked.parts[:2] == ("rooms", OLD) and asked.parts[-1] == "joined_members"
        return refuse(502, "M_UNKNOWN") if is_question and rooms._has_moved() else None

    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        scripted_homeserver() as homeserver,
    ):
        homeserver.rules += [is_away, rooms]
        homeserver.rooms |= {OLD: {BOT, ALICE}, NEW: {ALICE}}
        settings = settings_for(homeserver, database_settings, folder, modules=irc_module(irc))
        await carl.join("#pier")
        async with running(settings) as app:
            rooms.parts, near = app.parts, app.parts.instances[NEAR]
            await connected(near)
            await app.parts.plumbing.bridge(near, "#pier", OLD, UserId(ALICE))
            carl.say("PRIVMSG #pier :a ghost comes in")
            await homeserver.wait_until(lambda: "a ghost comes in" in homeserver.texts(OLD))
            tombstone = replace_old(rooms)
            assert await homeserver.put(settings, [tombstone]) == 200
            await wait_until(rooms._has_moved)
        homeserver.rules.remove(is_away)
        assert ghost in homeserver.rooms[OLD]
        async with running(settings) as app:
            await homeserver.wait_until(lambda: moved in homeserver.texts(NEW))
            await homeserver.wait_until(lambda: homeserver.rooms[OLD] == {BOT, ALICE})
            await homeserver.wait_until(lambda: published(homeserver, OLD) == [ALICE, ""])
            assert ghost in homeserver.rooms[NEW]
            # Who says it again later has nothing done again.
            assert await homeserver.put(settings, [{**tombstone, "event_id": "$again"}]) == 200
            await wait_until(lambda: is_idle(app.parts))
            assert homeserver.texts(NEW) == [moved]


async def test_what_was_cut_off_is_done_whole_the_next_time(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    rooms = Rooms()
    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        play(database_settings, folder, rules=[rooms], modules=irc_module(irc)) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        rooms.parts, near = parts, parts.instances[NEAR]
        homeserver.rooms |= {OLD: {BOT, ALICE}, NEW: {ALICE}, OWN: {BOT}}
        homeserver.public.add(OWN)
        await connected(near)
        await carl.join("#pier")

        # Where it is said to have failed, nothing has changed.
        rooms.fails = "m.room.power_levels"
        with pytest.raises(TemporaryFailure):
            await parts.plumbing.bridge(near, "#pier", OLD, UserId(ALICE))
        assert not parts.portals.all
        # Of what is tied and no more, the rest is done.
        for room, name, by in ((OLD, "#pier", UserId(ALICE)), (OWN, "#own", BOT)):
            chat = await parts.plumbing.read_chat(near, name)
            await near.join(chat)
            await parts.portals.add(instance=NEAR, chat=chat, room=room, created_by=by)
        await parts.plumbing.bridge(near, "#pier", OLD, UserId(ALICE))
        await parts.plumbing.open_room(near, "#own")
        await homeserver.wait_until(lambda: published(homeserver, OLD) == [ALICE])
        await homeserver.wait_until(lambda: published(homeserver, OWN) == [BOT])
        assert len(homeserver.texts(OWN)) == 1
        assert "#own" in homeserver.texts(OWN)[0]

        carl.say("PRIVMSG #pier :a ghost comes in")
        await homeserver.wait_until(lambda: "a ghost comes in" in homeserver.texts(OLD))
        tombstone = replace_old(rooms)
        rooms.fails = "joined_members"
        unknown = Unknown(("rooms", OLD, "state", "m.room.tombstone"), ("join", NEW))
        homeserver.rules.insert(0, unknown)
        assert await stage.put(tombstone) == 200
        moved = "The bridge to #pier on near has moved here."
        await homeserver.wait_until(lambda: moved in homeserver.texts(NEW))
        assert not rooms.fails
        assert not unknown.left
        assert homeserver.texts(NEW) == [moved]
        assert not any("stays here" in text for text in homeserver.texts(OLD))
        await homeserver.wait_until(lambda: published(homeserver, OLD) == [ALICE, ""])
        assert published(homeserver, NEW) == [ALICE]
        await homeserver.wait_until(lambda: homeserver.rooms[OLD] == {BOT, ALICE})
        assert f"@_trestle_near_carl:{SERVER}" in homeserver.rooms[NEW]


async def test_who_left_the_chat_while_the_homeserver_was_away_does_not_move_along(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    rooms, carl, dora = Rooms(), *(f"@_trestle_near_{one}:{SERVER}" for one in ("carl", "dora"))
    refused: list[str] = []

    def is_away(asked: Asked) -> Answer | None:
        if asked.parts[:2] != ("rooms", OLD) or asked.parts[-1] != "joined_members":
            return None
        refused.append(asked.path)
        return refuse(502, "M_UNKNOWN")

    async with run_ngircd() as irc, scripted_homeserver() as homeserver:
        homeserver.rules.append(rooms)
        homeserver.rooms |= {OLD: {BOT, ALICE}, NEW: {ALICE}}
        settings = settings_for(homeserver, database_settings, folder, modules=irc_module(irc))
        async with irc_user(irc.port, "dora") as stays:
            await stays.join("#pier")
            async with irc_user(irc.port, "carl") as goes, running(settings) as app:
                rooms.parts, near = app.parts, app.parts.instances[NEAR]
                await connected(near)
                await goes.join("#pier")
                await app.parts.plumbing.bridge(near, "#pier", OLD, UserId(ALICE))
                for one in (goes, stays):
                    one.say("PRIVMSG #pier :hello")
                await homeserver.wait_until(lambda: {carl, dora} <= homeserver.rooms[OLD])
            homeserver.rules.insert(0, is_away)
            async with running(settings) as app:
                rooms.parts = app.parts
                # So it is some seconds until it is tried next.
                await wait_until(lambda: len(refused) >= 4)
                homeserver.rules.remove(is_away)
                assert await homeserver.put(settings, [replace_old(rooms)]) == 200
                moved = "The bridge to #pier on near has moved here."
                await homeserver.wait_until(lambda: moved in homeserver.texts(NEW))
                await homeserver.wait_until(lambda: homeserver.rooms[OLD] == {BOT, ALICE})
                await homeserver.wait_until(lambda: dora in homeserver.rooms[NEW])
                asked = [one.user for one in homeserver.of("POST", "rooms", NEW, "join")]
                assert carl not in {*asked, *homeserver.rooms[NEW]}


async def test_a_bridge_that_is_untied_while_it_moves_is_in_neither_room(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    rooms, ghost = Rooms(), f"@_trestle_near_carl:{SERVER}"
    refused: list[str] = []

    def is_busy(asked: Asked) -> Answer | None:
        is_question = asked.parts[:2] == ("rooms", OLD) and asked.parts[-1] == "joined_members"
        if refused or not is_question or not rooms._has_moved():
            return None
        refused.append(asked.path)
        return Answer(429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 600_000})

    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        play(database_settings, folder, rules=[is_busy, rooms], modules=irc_module(irc)) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        rooms.parts, near = parts, parts.instances[NEAR]
        homeserver.rooms |= {OLD: {BOT, ALICE}, NEW: {ALICE}}
        await connected(near)
        await carl.join("#pier")
        door = await parts.plumbing.bridge(near, "#pier", OLD, UserId(ALICE))
        carl.say("PRIVMSG #pier :a ghost comes in")
        await homeserver.wait_until(lambda: "a ghost comes in" in homeserver.texts(OLD))
        assert await stage.put(replace_old(rooms)) == 200
        await wait_until(lambda: bool(refused))
        await parts.plumbing.unbridge(door, UserId(ALICE))
        await homeserver.wait_until(lambda: homeserver.rooms[OLD] == {BOT, ALICE})
        await homeserver.wait_until(lambda: published(homeserver, OLD) == [ALICE, ""])
        await wait_until(lambda: not parts.sender.waiting)
        assert ghost not in homeserver.rooms[NEW]
        assert not any(published(homeserver, NEW))
        assert "moved here" not in str(homeserver.texts(NEW))


def is_idle(parts: Parts) -> bool:
    """Whether all that came is handled, and what is to be said of it is said."""
    return not (parts.router.waiting or parts.sender.waiting)


def tells_of(asked: Asked, room: str, chat: str) -> Answer | None:
    """Have a room tell of the bridge to one chat."""
    is_asked = asked.method == "GET" and asked.parts[:4] == ("rooms", room, "state", "m.bridge")
    if not is_asked or not asked.parts[-1].endswith(f"/{chat}"):
        return None
    return Answer(content={"creator": ALICE})


def networks(irc: IrcServer) -> dict[str, tuple[str, dict[str, object]]]:
    """Three of them: a room has one channel of each."""
    return {name: irc_module(irc, nick=f"relay{name}")["near"] for name in ("near", "far", "else")}


async def test_a_move_that_was_cut_off_is_finished_though_another_bridge_is_still_in_the_old_room(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    rooms = Rooms()
    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        play(database_settings, folder, rules=[rooms], modules=networks(irc)) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        rooms.parts, instances = parts, parts.instances
        homeserver.rooms |= {OLD: {BOT, ALICE}, NEW: {ALICE}}
        for one in instances.values():
            await connected(one)
        for network, name in (("near", "#pier"), ("far", "#quay")):
            await carl.join(name)
            await parts.plumbing.bridge(instances[InstanceId(network)], name, OLD, UserId(ALICE))
        carl.say("PRIVMSG #pier :a ghost comes in")
        await homeserver.wait_until(lambda: "a ghost comes in" in homeserver.texts(OLD))
        # So far the last process came.
        first = parts.portals.in_room(OLD)[0]
        homeserver.rules.insert(0, lambda asked: tells_of(asked, OLD, "#pier"))
        await parts.portals.move(first, NEW, UserId(ALICE))
        # It was there before, and has nothing to do with the old room.
        await parts.plumbing.bridge(instances[InstanceId("else")], "#own", NEW, UserId(ALICE))
        assert await stage.put(replace_old(rooms)) == 200
        moved = [
            f"The bridge to {place} has moved here." for place in ("#pier on near", "#quay on far")
        ]
        await homeserver.wait_until(lambda: set(moved) <= set(homeserver.texts(NEW)))
        await homeserver.wait_until(lambda: homeserver.rooms[OLD] == {BOT, ALICE})
        await wait_until(lambda: is_idle(parts))
        assert sorted(homeserver.texts(NEW)) == moved
        assert f"@_trestle_near_carl:{SERVER}" in homeserver.rooms[NEW]


@pytest.mark.parametrize("others", [frozenset[str](), frozenset({f"@bea:{SERVER}"})])
async def test_what_was_said_to_one_alone_goes_along_only_where_nobody_else_reads(
    database_settings: DatabaseSettings, folder: Path, others: frozenset[str]
) -> None:
    rooms, ghost = Rooms(), UserId(f"@_trestle_near_carl:{SERVER}")

    def is_closed(asked: Asked) -> Answer | None:
        is_said = asked.parts[:3] == ("rooms", OLD, "send") and asked.user == ghost
        return refuse(403, "M_FORBIDDEN") if is_said else None

    async with (
        run_ngircd() as irc,
        play(
            database_settings, folder, rules=[is_closed, rooms], modules=irc_module(irc)
        ) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        rooms.parts = parts
        homeserver.rooms |= {OLD: {BOT, ALICE, ghost}, NEW: {BOT, ALICE, *others}}
        chat = RemoteChat(id=RemoteChatId("carl"), name="carl")
        door = await parts.portals.add(
            instance=NEAR, chat=chat, room=OLD, created_by=UserId(ALICE), receiver=LoginId(99)
        )
        tombstone = replace_old(rooms)
        await parts.sender.put(
            [replace(say("a secret"), room=OLD, user=ghost, portal=door.portal.id)]
        )
        await wait_until(lambda: any(lane.trouble for lane in parts.sender.standing()))
        assert await stage.put(tombstone) == 200
        await homeserver.wait_until(
            lambda: any("moved here" in one for one in homeserver.texts(NEW))
        )
        await wait_until(lambda: not parts.sender.holding())
        assert ("a secret" in homeserver.texts(NEW)) is not bool(others)
        parked = await parts.database.core.fetchval(
            "SELECT state FROM outbox ORDER BY seq LIMIT 1"
        )
        assert parked == ("parked" if others else "sent")
