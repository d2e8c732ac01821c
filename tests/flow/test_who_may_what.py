"""What comes of each command, by who says it and how, is what the table in the docs says."""

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest_asyncio

from bridge.app import App
from bridge.core.commands.networkcommands import declared
from bridge.core.host.actions import WORDS
from bridge.demo.matrix_user import Event, MatrixUser
from bridge.manual.permissionspage import DONE, NO_LEVEL, NO_POWER, NOT_HERE, UNHEARD
from bridge.matrix.client import path
from bridge.model import InstanceRules, Permission
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from tests.flow.chats import Chat, answers, hear
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import BOT, enter, give_power, power, wait_for_state
from tests.rigs.cluster import Cluster
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, deliver, make_modules, running, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "permissions.md"
SAID = (
    "bridge near {chat}", "help", "ping", "modules", "status", "set", "pause", "resume", "parked",
    "policy", "optout", "optin", "double-puppet", "login near", "logins", "prefer 1", "logout",
    "manager", "sessions", "data", "forget me", "ack", "where", "near status", "near nick",
    "near whois trestle", "near list", "near join {chat}", "near query carl", "near part {chat}",
    "near msg nobody hello", "near ctcp nobody TIME", "near away", "near raw INFO",
    "near umode", "near username", "near certfp", "near autocommand",
    "near reconnect", "near disconnect", "near topic words", "near op nobody", "near voice nobody",
    "near mode +n", "near invite nobody", "near kick nobody", "near ban nobody", "near names",
    "near modes", "near sync", "near key off", "unbridge",
)  # fmt: skip
"""Each command once, in an order in which all can be done."""


def name_of(said: str) -> str:
    """The command as the page names it: a network's stands under its module."""
    words = said.split()
    return f"irc {words[1]}" if words[0] == "near" else words[0]


SIGNS = {
    "you need the power": NO_POWER,
    "do not let you do that": NO_LEVEL,
    "is bridged to another room": NOT_HERE,
    "this room is not bridged": NOT_HERE,
    "say it in a bridged room": NOT_HERE,
    "is of another room": NOT_HERE,
    "Not now": "not now",
}
NUMBERS = itertools.count()


def read_page() -> Mapping[str, Mapping[str, str]]:
    """The page's table: by situation, by command."""
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| command |") or line.count("|") > 8
    ]
    head, lines = rows[0], [row for row in rows[1:] if not row[0].startswith("--")]
    return {
        who: {name.strip(" `"): line[n] for line in lines for name in line[0].split(",")}
        for n, who in enumerate(head)
        if n
    }


TABLE = read_page()


@dataclass(frozen=True, slots=True)
class Stage:
    """One Trestle, with people whose levels the settings name."""

    town: Town
    app: App
    admin: MatrixUser
    """Of level admin."""
    relayed: MatrixUser
    """Of level relay for the network, and user else."""
    outsider: MatrixUser
    """Of level user for the network, and none else."""
    stranger: MatrixUser
    """Of level none."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(town: Town, cluster: Cluster, tmp_path_factory: Any) -> AsyncIterator[Stage]:
    people = [await town.person(name) for name in ("admin", "relayed", "outsider", "stranger")]
    admin, relayed, outsider, stranger = people
    async with run_ngircd() as irc:
        levels = {relayed.id: Permission.RELAY, outsider.id: Permission.USER}
        modules = make_modules(
            {**irc_module(irc), "dice": ("dice", {})}, {NEAR: InstanceRules(permissions=levels)}
        )
        folder = tmp_path_factory.mktemp("who")
        settings = town.settings_for(
            folder, await cluster.fresh(), modules=modules,
            permissions={
                **dict.fromkeys((outsider.id, stranger.id), Permission.NONE),
                admin.id: Permission.ADMIN,
            },
        )  # fmt: skip
        async with running(settings) as app:
            await wait_until(lambda: app.parts.introduced)
            yield Stage(town, app, *people)


def contents(chat: str, answered: str, commands: Sequence[str] = SAID) -> list[dict[str, Any]]:
    """Each command as the content of a message."""
    made: list[dict[str, Any]] = [
        {"msgtype": "m.text", "body": f"!trestle {said.format(chat=chat)}"} for said in commands
    ]
    for content in made:
        if content["body"] == "!trestle where":
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": answered}}
    return made


def outcomes(texts: Sequence[str]) -> dict[str, str]:
    """By command what came of it, from its answers in order."""
    found = {}
    for said, text in zip(SAID, texts, strict=True):
        signs = [outcome for sign, outcome in SIGNS.items() if sign in text]
        found[name_of(said)] = signs[0] if signs else DONE
    return found


async def run_all(
    speaker: MatrixUser, room: str, chat: str, *, reader: MatrixUser | None = None,
    answered: str = "",
) -> dict[str, str]:  # fmt: skip
    """Have somebody say every command; give what came of each."""
    reader = reader or speaker
    await reader.sync(0)
    before = len(answers(reader, room))
    event = await speaker.say(room, "!trestle ping")
    made = contents(chat, answered or event)
    for content in made:
        await speaker.send(room, content)
    return outcomes((await hear(reader, room, len(made) + 1, before))[1:])


async def nothing_comes(reader: MatrixUser, room: str, act: Callable[[], Any]) -> dict[str, str]:
    """Have the commands said by ``act``; give that none was heard, if that is so."""
    await reader.sync(0)
    before = len(answers(reader, room))
    await act()
    await reader.say(room, "!trestle ping")
    assert await hear(reader, room, 1, before) == ["I am here."]
    return {name_of(said): UNHEARD for said in SAID}


async def unheard(stage: Stage, alice: MatrixUser, room: str, chat: str) -> dict[str, Any]:
    """What comes of commands that nobody may be obeyed for, by situation."""
    app, mod = stage.app, await stage.town.person("mod")
    ghost = app.parts.namespaces.ghost(NEAR, "carl")
    dice = app.parts.namespaces.bot_of(InstanceId("dice"))
    for ours in (ghost, dice):
        await app.parts.intents.ensure_joined(RoomId(room), ours)
    await mod.join(room)
    await give_power(alice, room, {ghost: 100, dice: 100, mod.id: 50})
    kept = (await alice.messages(room))[-1]["event_id"]
    # What is not heard is not read: one command of the network stands for all.
    one_of_irc = [one for one in SAID if not one.startswith("near") or "kick" in one]
    made = contents(chat, kept, one_of_irc)

    async def as_ours(user: UserId) -> None:
        for content in made:
            place = path("v3", "rooms", room, "send", "m.room.message", f"law{next(NUMBERS)}")
            await app.parts.client.request("PUT", place, user=user, content=content)

    async def edit_in() -> None:
        first = await alice.say(room, "!trestles are tables")
        for content in made:
            edit = {"rel_type": "m.replace", "event_id": first}
            await alice.send(room, {**content, "m.new_content": content, "m.relates_to": edit})

    async def take_back() -> None:
        app.parts.intake.is_open = False
        for content in made:
            event = await alice.send(room, content)
            await alice.call("PUT", f"v3/rooms/{room}/redact/{event}/r{next(NUMBERS)}", {})
        app.parts.intake.is_open = True

    async def say_banned() -> None:
        await alice.call("POST", f"v3/rooms/{room}/ban", {"user_id": mod.id})
        for content in made:
            place = f"v3/rooms/{room}/send/m.room.message/b{next(NUMBERS)}"
            assert (await mod.try_call("PUT", place, content))[0] == 403

    return {
        "ghost": await nothing_comes(alice, room, lambda: as_ours(ghost)),
        "bot": await nothing_comes(alice, room, lambda: as_ours(dice)),
        "edited in": await nothing_comes(alice, room, edit_in),
        "redacted": await nothing_comes(alice, room, take_back),
        "banned": await nothing_comes(alice, room, say_banned),
    }


async def test_what_comes_of_each_command_is_what_the_docs_say(stage: Stage) -> None:
    town, app = stage.town, stage.app
    of_irc = {f"irc {one.name}" for one in declared(app.parts.instances[NEAR].connector)}
    assert {name_of(said) for said in SAID} == set(app.parts.main_bot.actions) | of_irc
    assert set(app.parts.main_bot.actions) == WORDS
    alice, mod, poor = [await town.person(name) for name in ("alice", "mod", "poor")]
    room, chat = await enter(alice, room_version="11"), "#law"
    for person in (mod, poor):
        await person.join(room)
    await give_power(alice, room, {mod.id: 50})
    found = {"power 100": await run_all(alice, room, chat)}
    events = [e for e in await alice.messages(room) if e.get("sender") == alice.id]
    found["power 50"] = await run_all(mod, room, chat)
    await alice.say(room, f"!trestle bridge near {chat}")
    await alice.wait_until(lambda: "bridged to" in answers(alice, room)[-1])
    door = app.parts.portals.in_room(RoomId(room))[0]
    found["power 0"] = await run_all(poor, room, chat)
    found |= await unheard(stage, alice, room, chat)
    found["replayed"] = await nothing_comes(alice, room, lambda: replay(stage, room, events))
    kept = (await alice.messages(room))[-1]["event_id"]
    found["other room"] = await run_all(
        alice, await enter(alice, room_version="11"), chat, answered=kept
    )
    # Nothing of all this touched the bridge.
    assert app.parts.portals.in_room(RoomId(room)) == [door]
    assert not door.portal.paused

    cora = await town.person("cora")
    young = await enter(cora, room_version="12")
    levels = await cora.call("GET", f"v3/rooms/{young}/state/m.room.power_levels/")
    assert cora.id not in levels["users"]
    found["creator"] = await run_all(cora, young, "#young")
    found["admin"] = await run_all(stage.admin, await made_for(stage, "#made"), "#made")
    assert found == TABLE


async def made_for(stage: Stage, chat: str) -> str:
    """A room that was made for the chat, and in which our admin has no power."""
    alias = stage.app.parts.namespaces.alias(NEAR, RemoteChatId(chat))
    joined = await stage.admin.call("POST", f"v3/join/{quote(alias)}", {})
    room = str(joined["room_id"])
    await wait_for_state(stage.admin, room, "m.room.power_levels", power(stage.admin.id, 100))
    await give_power(stage.admin, room, {stage.admin.id: 0})
    return room


async def replay(stage: Stage, room: str, events: Sequence[Event]) -> None:
    """Give the program events again, as the homeserver does when an answer was lost."""
    said = [{**event, "room_id": room} for event in events if "state_key" not in event]
    assert len(said) > len(SAID)
    await deliver(stage.app.settings, f"again{next(NUMBERS)}", said)


async def test_the_power_that_counts_is_that_at_the_moment_when_it_was_said(
    stage: Stage,
) -> None:
    town, intake = stage.town, stage.app.parts.intake
    for version, chat in (("11", "#then"), ("12", "#now")):
        owner, falls, rises = [await town.person(name) for name in ("owner", "falls", "rises")]
        room = await enter(owner, room_version=version)
        await falls.join(room)
        await rises.join(room)
        await give_power(owner, room, {falls.id: 50})
        await owner.say(room, f"!trestle bridge near {chat}")
        await owner.wait_for_text(room, "This room is bridged to")
        intake.is_open = False
        await falls.say(room, "!trestle pause")
        await rises.say(room, "!trestle unbridge")
        await give_power(owner, room, {falls.id: 0, rises.id: 90})
        await rises.say(room, "!trestle resume")
        intake.is_open = True
        paused, refused, resumed = await hear(owner, room, 3, 1)
        assert "Nothing crosses" in paused
        assert "you need the power" in refused
        assert "cross to and from" in resumed


async def test_a_secret_is_taken_back_also_of_who_may_not_say_it(stage: Stage) -> None:
    relayed, outsider, stranger = stage.relayed, stage.outsider, stage.stranger
    room = await enter(relayed, room_version="11")
    await outsider.join(room)
    await stranger.join(room)
    await give_power(relayed, room, {BOT: 100})
    said = [
        await stranger.say(room, "!trestle double-puppet token s3cret"),
        await outsider.say(room, "!trestle double-puppet s3cret"),
        await relayed.say(room, "!trestle near autocommand raw OPER s3cret"),
        await relayed.say(room, "!trestle near autocomand raw OPER s3cret"),
        await relayed.say(room, "!trestle double-puppet s3cret", msgtype="m.emote"),
    ]
    for event_id in said:
        await Chat(relayed, room).wait_until_removed(event_id)
    assert "s3cret" not in str(await relayed.messages(room))


async def test_a_networks_own_levels_come_first_for_it(stage: Stage) -> None:
    relayed, outsider, stranger = stage.relayed, stage.outsider, stage.stranger
    room = await enter(relayed, room_version="11")
    await outsider.join(room)
    await stranger.join(room)
    await give_power(relayed, room, {outsider.id: 50, stranger.id: 50})
    await relayed.say(room, "!trestle bridge near #own")
    await stranger.say(room, "!trestle bridge near #own")
    await outsider.say(room, "!trestle bridge near #own")
    await relayed.say(room, "!trestle unbridge")
    await relayed.say(room, "!trestle ping")
    refused, bridged, kept, here = await hear(relayed, room, 4, 0)
    assert "do not let you do that" in refused
    assert "bridged to #own on near" in bridged
    assert "do not let you do that" in kept
    assert here == "I am here."
