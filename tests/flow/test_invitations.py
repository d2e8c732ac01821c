"""Invitations of bots that come again, at a bad moment, or from where nobody can go."""

import asyncio
from pathlib import Path

import pytest

from bridge.core.intake.watch import watch_name
from bridge.model import Permission
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, ROOM, ask, play, settings_for
from tests.flow.networks import irc_module
from tests.flow.scripted import BEA, invite
from tests.rigs.cluster import until_one_waits
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

HELP = {"msgtype": "m.text", "body": "help"}


def empower(asked: Asked) -> Answer | None:
    """The bot may do all in each room."""
    is_question = asked.parts[2:4] == ("state", "m.room.power_levels")
    return Answer(content={"users": {f"@trestle:{SERVER}": 100}}) if is_question else None


async def test_a_bot_that_is_invited_again_hears_all_that_is_said_meanwhile(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    room, looked = f"!fresh:{SERVER}", asyncio.Event()

    def fail_once(asked: Asked) -> Answer | None:
        is_question = asked.parts[:4] == ("rooms", room, "state", "m.room.encryption")
        if not is_question or looked.is_set():
            return None
        looked.set()
        return refuse(500, "M_UNKNOWN")

    async with play(database_settings, folder, rules=[fail_once]) as stage:
        # It is in there already.
        said = [f"n{number}" for number in range(60)]
        events = [ask(text) for text in said]
        assert await stage.put(*events[:30], invite(ROOM), *events[30:]) == 200
        # It has come in, and what is to be done then fails and is done again.
        assert await stage.put(invite(room)) == 200
        await wait_until(looked.is_set)
        assert await stage.put(*(ask(text, room) for text in said)) == 200
        await wait_until(lambda: len(stage.homeserver.texts(room)) == 60)
        assert await stage.heard() == said
        assert await stage.heard(room) == said


async def test_a_room_that_nobody_can_join_holds_up_no_other_and_is_given_up(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    bad, ghost = "!bad:elsewhere.example", f"@_trestle_near_dora:{SERVER}"
    goods = [RoomId(f"!good{number}:{SERVER}") for number in range(32)]
    away = asyncio.Event()

    def fail(asked: Asked) -> Answer | None:
        is_bad = asked.parts[:2] == ("rooms", bad) and asked.parts[-1] in {"join", "leave"}
        return refuse(502, "M_UNKNOWN") if away.is_set() or is_bad else None

    async with (
        run_ngircd() as irc,
        play(database_settings, folder, rules=[fail], modules=irc_module(irc)) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        assert await stage.put(invite(bad)) == 200
        await homeserver.wait_until(lambda: bool(homeserver.of("POST", "rooms", bad, "join")))
        assert await stage.put(*map(invite, goods)) == 200
        await wait_until(lambda: {(DICE, good) for good in goods} <= parts.routes.seats)
        # A homeserver that is away itself says nothing of the room.
        away.set()
        parts.routes.watcher.invitations.give_up_after = 0.0
        tries = len(homeserver.of("POST", "rooms", bad, "join"))
        await homeserver.wait_until(
            lambda: len(homeserver.of("POST", "rooms", bad, "join")) > tries
        )
        assert f"watch:{bad}" in parts.router.lanes
        away.clear()
        # Neither can a ghost, which cannot decline either.
        direct = {"membership": "invite", "is_direct": True}
        assert await stage.put(invite(bad, ghost, "ghost", content=direct)) == 200
        await wait_until(lambda: f"watch:{bad}" not in parts.router.lanes)
        assert {asked.user for asked in homeserver.of("POST", "rooms", bad)} == {DICE, ghost}
        assert not parts.routes.has_seat(UserId(DICE), RoomId(bad))
        await parts.marker.settle()
        assert [row async for row in parts.journal.unfinished()] == []
        assert await parts.items.count_parked() == {}


async def test_a_bot_that_comes_in_while_it_is_asked_where_it_is_stays(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    room, answered, may_hear = RoomId(f"!new:{SERVER}"), asyncio.Event(), asyncio.Event()

    def hold(asked: Asked) -> asyncio.Event | None:
        if asked.parts != ("joined_rooms",) or asked.user != DICE:
            return None
        answered.set()
        return may_hear

    async with scripted_homeserver() as homeserver:
        homeserver.hold = hold
        settings = settings_for(homeserver, database_settings, folder)
        async with running(settings) as app:
            await wait_until(answered.is_set)
            assert await homeserver.put(settings, [invite(room)]) == 200
            await wait_until(lambda: app.parts.routes.has_seat(UserId(DICE), room))
            may_hear.set()
            await homeserver.wait_until_greeted()
            assert await homeserver.put(settings, [ask("still here", room)]) == 200
            await homeserver.wait_until(lambda: "still here" in homeserver.texts(room))


async def test_what_is_said_as_soon_as_the_bot_has_come_in_is_heard(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    bot, chat = UserId(f"@trestle:{SERVER}"), RoomId(f"!chat:{SERVER}")
    may_hear = asyncio.Event()
    async with play(database_settings, folder, permissions={BEA: Permission.USER}) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        homeserver.rooms[chat] = {BEA}
        # It has come in, and does not know it yet.
        homeserver.hold = lambda asked: (
            may_hear if asked.parts == ("rooms", chat, "join") else None
        )
        direct = {"membership": "invite", "is_direct": True}
        assert await stage.put(invite(chat, bot, sender=BEA, content=direct)) == 200
        await homeserver.wait_until(lambda: bot in homeserver.rooms[chat])
        assert await stage.put(ask("", chat, sender=BEA, content=HELP)) == 200
        # Were we cut off now, it would still be known who has heard that.
        assert (bot, chat, BEA) in await parts.bot_rooms.bot_rooms()
        may_hear.set()
        await homeserver.wait_until(lambda: any("help" in text for text in homeserver.texts(chat)))


async def test_a_bot_that_cannot_come_in_has_no_seat_there(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    shut = RoomId(f"!shut:{SERVER}")

    def refuse_all(asked: Asked) -> Answer | None:
        is_join = asked.parts == ("rooms", shut, "join")
        return refuse(403, "M_FORBIDDEN") if is_join else None

    async with play(database_settings, folder, rules=[refuse_all]) as stage:
        parts = stage.app.parts
        # As it is after a kill, before it was known to be void.
        await parts.bot_rooms.add_bot_room(UserId(DICE), shut, None)
        parts.seat(UserId(DICE), shut, None)
        assert await stage.put(invite(shut)) == 200
        await wait_until(lambda: not parts.routes.has_seat(UserId(DICE), shut))
        assert shut not in {room for _, room, _ in await parts.bot_rooms.bot_rooms()}


async def test_a_bot_that_is_let_in_while_it_is_asked_where_it_is_stays(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    room, asks, may_hear = RoomId(f"!slow:{SERVER}"), asyncio.Event(), asyncio.Event()

    def hold(asked: Asked) -> asyncio.Event | None:
        if asked.parts != ("rooms", room, "join"):
            return None
        asks.set()
        return may_hear

    async with play(database_settings, folder) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        homeserver.hold = hold
        homeserver.rules.append(
            lambda asked: Answer(content={"joined_rooms": [ROOM]})
            if asked.parts == ("joined_rooms",) and asked.user == DICE else None
        )  # fmt: skip
        # The homeserver says where it was before it let the bot in.
        assert await stage.put(invite(room)) == 200
        await wait_until(asks.is_set)
        await parts.stage_bots()
        may_hear.set()
        await wait_until(lambda: watch_name(room) not in parts.router.lanes)
        assert parts.routes.has_seat(UserId(DICE), room)
        assert (DICE, room, None) in await parts.bot_rooms.bot_rooms()


@pytest.mark.parametrize("told_by", ["event", "look"])
async def test_a_direct_chat_stays_one_though_the_news_that_the_bot_is_there_comes_meanwhile(
    database_settings: DatabaseSettings, folder: Path, told_by: str
) -> None:
    bot = UserId(f"@trestle:{SERVER}")
    async with play(database_settings, folder, permissions={BEA: Permission.USER}) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        chat = await parts.intents.create_room(bot, invite=[BEA], is_direct=True)
        homeserver.rooms[chat].add(BEA)
        core = parts.database.core
        async with (
            asyncio.TaskGroup() as group, core.acquire() as connection, connection.transaction(),
        ):  # fmt: skip
            await connection.execute("LOCK TABLE bot_room IN SHARE ROW EXCLUSIVE MODE")
            # It has no seat there when this begins.
            if told_by == "event":
                joins = invite(chat, bot, sender=bot, content={"membership": "join"})
                assert await stage.put(joins) == 200
            else:
                group.create_task(parts.stage_bots())
            await until_one_waits(core)
            await connection.execute(
                "INSERT INTO bot_room (user_id, room, direct_with, since) "
                "VALUES ($1, $2, $3, now())", bot, chat, BEA,
            )  # fmt: skip
            parts.seat(bot, chat, BEA)
        await wait_until(lambda: watch_name(chat) not in parts.router.lanes)
        assert (bot, chat, BEA) in await parts.bot_rooms.bot_rooms()
        # What is said there is said to the bot.
        assert await stage.put(ask("", chat, sender=BEA, content=HELP)) == 200
        await homeserver.wait_until(lambda: any("help" in text for text in homeserver.texts(chat)))


async def test_who_has_a_level_for_one_network_alone_is_led_to_one_chat(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    secret, bot = f"!secret:{SERVER}", UserId(f"@trestle:{SERVER}")

    def encrypt(asked: Asked) -> Answer | None:
        is_question = asked.parts[1:4] == (secret, "state", "m.room.encryption")
        return Answer(content={"algorithm": "m.megolm.v1.aes-sha2"}) if is_question else None

    async with play(database_settings, folder, rules=[empower, encrypt]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        parts.permissions.set({}, {InstanceId("near"): {BEA: Permission.USER}})

        def chats() -> list[str]:
            return [said.room for said in homeserver.said if "not encrypted" in said.text]

        stripped = [{"type": "m.room.encryption", "state_key": "", "content": {}}]
        unsigned = {"invite_room_state": stripped}
        assert await stage.put(invite(secret, bot, sender=BEA, unsigned=unsigned)) == 200
        await homeserver.wait_until(lambda: bool(chats()))
        (chat,) = chats()
        homeserver.rooms[chat].add(BEA)
        # Cut off before it was noted, it is done again.
        what = f"private chat with {bot}"
        here = f"{what}, {parts.house.key_of(secret).hex()}"
        async with asyncio.timeout(20):
            while not await parts.bot_rooms.was_told(BEA, here):  # The last that is noted.
                await asyncio.sleep(0.01)
        for one in (what, here):
            await parts.bot_rooms.forget_told(BEA, one)
        again = ask("", secret, type="m.room.encrypted", sender=BEA, content={})
        assert await stage.put(again) == 200
        await wait_until(lambda: not parts.router.waiting)
        assert len(homeserver.of("POST", "createRoom")) == 1
        for one in (what, here):
            assert await parts.bot_rooms.was_told(BEA, one)


async def test_what_an_inviting_server_says_of_a_room_does_not_mark_it_as_encrypted(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    room, bot = RoomId(f"!clear:{SERVER}"), UserId(f"@trestle:{SERVER}")
    async with play(database_settings, folder) as stage:
        parts = stage.app.parts
        parts.permissions.set({}, {InstanceId("near"): {BEA: Permission.USER}})
        stripped = [{"type": "m.room.encryption", "state_key": "", "content": {}}]
        unsigned = {"invite_room_state": stripped}
        assert await stage.put(invite(room, bot, sender=BEA, unsigned=unsigned)) == 200
        asked = ("rooms", room, "state", "m.room.encryption")
        homeserver = stage.homeserver
        await homeserver.wait_until(lambda: bool(homeserver.of("GET", *asked)))
        await wait_until(lambda: not parts.router.waiting)
        assert not parts.encryption.is_known(room)
        assert room not in await parts.bot_rooms.encrypted_rooms()


async def test_two_who_open_the_direct_chat_with_somebody_at_the_same_time_have_one(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    bot = UserId(f"@trestle:{SERVER}")
    async with play(database_settings, folder, rules=[empower]) as stage:
        homeserver, chats = stage.homeserver, stage.app.parts.stage.private_chats
        seat = chats.on_room

        def come(bot: UserId, room: RoomId, person: UserId | None) -> None:
            homeserver.rooms[room].add(BEA)
            assert seat is not None
            seat(bot, room, person)

        chats.on_room = come
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(chats.open(bot, BEA))
        assert len(homeserver.of("POST", "createRoom")) == 1


async def test_a_homeserver_that_does_not_know_us_just_now_has_no_second_direct_chat_made(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    bot, unknown = UserId(f"@trestle:{SERVER}"), set[tuple[str, ...]]()

    def forget(asked: Asked) -> Answer | None:
        return refuse(401, "M_UNKNOWN_TOKEN") if asked.parts in unknown else None

    async with play(database_settings, folder, rules=[forget, empower]) as stage:
        homeserver, chats = stage.homeserver, stage.app.parts.stage.private_chats
        chat = await chats.open(bot, BEA)
        homeserver.rooms[chat].add(BEA)
        unknown.add(("rooms", chat, "state"))
        with pytest.raises(TemporaryFailure):
            await chats.open(bot, BEA)
        with pytest.raises(TemporaryFailure):
            await chats.greet(bot, BEA, chat)
        unknown.clear()
        assert await chats.open(bot, BEA) == chat
        assert len(homeserver.of("POST", "createRoom")) == 1


async def test_a_direct_chat_is_private_while_its_person_is_just_coming_in(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    bot, rooms = UserId(f"@trestle:{SERVER}"), list[RoomId]()

    def before(asked: Asked) -> Answer | None:
        """Say who was in there before the person came."""
        is_asked = asked.parts in {("rooms", room, "joined_members") for room in rooms}
        return Answer(content={"joined": {bot: {}}}) if is_asked else None

    async with play(database_settings, folder, rules=[before, empower]) as stage:
        homeserver, chats = stage.homeserver, stage.app.parts.stage.private_chats
        rooms.append(await chats.open(bot, BEA))
        homeserver.rooms[rooms[0]].add(BEA)
        assert await chats.is_private(bot, BEA, rooms[0])
        homeserver.rooms[rooms[0]].add("@eve:far")
        assert not await chats.is_private(bot, BEA, rooms[0])


async def test_who_has_another_chat_with_the_bot_is_looked_up_once_for_many_encrypted_messages(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    bot, secret = UserId(f"@trestle:{SERVER}"), RoomId(f"!secret:{SERVER}")

    async with play(database_settings, folder, rules=[empower]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        parts.permissions.set({}, {InstanceId("near"): {BEA: Permission.USER}})
        chats = parts.stage.private_chats
        homeserver.rooms[await chats.open(bot, BEA)].add(BEA)
        await parts.bot_rooms.note_told(BEA, f"private chat with {bot}")
        await chats.offer(bot, BEA, secret, direct=True)
        asked = len(homeserver.asked)
        await chats.offer(bot, BEA, secret, direct=True)
        assert len(homeserver.asked) == asked
        assert len(homeserver.of("POST", "createRoom")) == 1


async def test_a_homeserver_that_does_not_know_us_just_now_voids_no_invitation(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    fresh, shut, chat = (RoomId(f"!{name}:{SERVER}") for name in ("fresh", "shut", "chat"))
    ghost = f"@_trestle_near_dora:{SERVER}"
    unknown = {
        ("rooms", fresh, "state", "m.room.encryption"): 4,
        ("rooms", shut, "join"): 4,
        ("rooms", chat, "joined_members"): 1,
    }

    def forget(asked: Asked) -> Answer | None:
        is_asked_about_shut = asked.parts == ("joined_rooms",) and asked.user == DICE
        place = ("rooms", shut, "join") if is_asked_about_shut else asked.parts[:4]
        if not unknown.get(place):
            return None
        unknown[place] -= 1
        return refuse(401, "M_UNKNOWN_TOKEN")

    async with (
        run_ngircd() as irc,
        play(database_settings, folder, modules=irc_module(irc)) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        homeserver.rules.append(forget)
        parts.routes.watcher.invitations.give_up_after = 0.0
        homeserver.rooms[chat] = {ALICE}
        direct = {"membership": "invite", "is_direct": True}
        come = invite(chat, ghost, "ghost", content=direct)
        assert await stage.put(invite(fresh), invite(shut), come) == 200
        await wait_until(lambda: not any(unknown.values()))
        await wait_until(lambda: bool(parts.portals.in_room(chat)))
        for room in (fresh, shut):
            await wait_until(lambda room=room: watch_name(room) not in parts.router.lanes)  # type: ignore[misc]
            assert parts.routes.has_seat(UserId(DICE), room)
        assert await parts.items.count_parked() == {}
        assert not homeserver.of("POST", "rooms", chat, "leave")


async def test_another_server_that_cannot_verify_ours_just_now_voids_no_invitation_at_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    slow, never = RoomId("!slow:far.example"), RoomId("!never:far.example")
    failures = 2

    def refuse_some(asked: Asked) -> Answer | None:
        nonlocal failures
        room = asked.parts[1] if asked.parts[2:] in {("join",), ("leave",)} else ""
        if room == never or (room == slow and failures):
            failures -= room == slow
            return refuse(401, "M_UNAUTHORIZED")
        return None

    async with play(database_settings, folder, rules=[refuse_some]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        assert await stage.put(invite(slow), invite(never)) == 200
        await wait_until(lambda: watch_name(slow) not in parts.router.lanes)
        assert parts.routes.has_seat(UserId(DICE), slow)
        assert watch_name(never) in parts.router.lanes
        # It is not waited for without end; nor is anything put aside that nobody can mend.
        parts.routes.watcher.invitations.give_up_after = 0.0
        await wait_until(lambda: watch_name(never) not in parts.router.lanes)
        assert not parts.routes.has_seat(UserId(DICE), never)
        stranger = invite(never, name="stranger", sender="@stranger:far.example")
        assert await stage.put(stranger) == 200
        await homeserver.wait_until(lambda: bool(homeserver.of("POST", "rooms", never, "leave")))
        await wait_until(lambda: watch_name(never) not in parts.router.lanes)
        assert await parts.items.count_parked() == {}


def be_strict(homeserver: ScriptedHomeserver, room: RoomId) -> None:
    """Have nobody be invited who is in the room, as Synapse does."""

    def refuse_invite(asked: Asked) -> Answer | None:
        is_there = asked.content.get("user_id") in homeserver.rooms.get(room, ())
        is_invite = asked.parts == ("rooms", room, "invite")
        return refuse(403, "M_FORBIDDEN") if is_invite and is_there else None

    homeserver.rules.append(refuse_invite)


async def test_a_direct_chat_that_is_cut_off_once_the_bot_has_come_in_is_gone_on_with(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    chat, ghost = RoomId(f"!chat:{SERVER}"), f"@_trestle_near_dora:{SERVER}"
    failures = [1, 2]

    def fail(asked: Asked) -> Answer | None:
        if asked.parts == ("rooms", chat, "joined_members") and failures:
            failures.pop()
            return refuse(502, "M_UNKNOWN")
        return None

    async with (
        run_ngircd() as irc,
        play(database_settings, folder, modules=irc_module(irc), rules=[fail]) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        be_strict(homeserver, chat)
        homeserver.rooms[chat] = {ALICE}
        direct = {"membership": "invite", "is_direct": True}
        assert await stage.put(invite(chat, ghost, "ghost", content=direct)) == 200
        await wait_until(lambda: bool(parts.portals.in_room(chat)))
        assert not failures
        assert not homeserver.of("POST", "rooms", chat, "leave")


@pytest.mark.parametrize("others", [{BEA}, set()])
async def test_who_is_invited_into_a_room_of_the_bots_declines_and_the_bot_stays_as_it_is(
    database_settings: DatabaseSettings, folder: Path, others: set[UserId]
) -> None:
    room, ghost = RoomId(f"!bots:{SERVER}"), f"@_trestle_near_dora:{SERVER}"
    bot = UserId(f"@trestle:{SERVER}")

    async with (
        run_ngircd() as irc,
        play(database_settings, folder, modules=irc_module(irc)) as stage,
    ):
        homeserver, parts = stage.homeserver, stage.app.parts
        be_strict(homeserver, room)
        homeserver.rooms[room] = {ALICE, bot, *others}
        await parts.move_in(bot, room)
        direct = {"membership": "invite", "is_direct": True}
        assert await stage.put(invite(room, ghost, "ghost", content=direct)) == 200
        await homeserver.wait_until(lambda: bool(homeserver.of("POST", "rooms", room, "leave")))
        await wait_until(lambda: watch_name(room) not in parts.router.lanes)
        assert [one.user for one in homeserver.of("POST", "rooms", room, "leave")] == [ghost]
        assert parts.routes.has_seat(bot, room)
        assert not parts.portals.in_room(room)
