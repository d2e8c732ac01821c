"""Rooms, as the people in them see and change them."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from bridge.demo.matrix_user import PATIENCE, Event, MatrixUser
from bridge.sdk.ids import UserId

BOT = UserId("@trestle:test.example")


async def bridge(
    person: MatrixUser, channel: str, network: str = "near", version: str = "12"
) -> str:
    """Have a room bridged the way people do it; give its id."""
    room = await person.create_room(preset="public_chat", name=channel, room_version=version)
    await person.invite(room, BOT)
    await person.wait_until_joined(room, BOT)
    await person.say(room, f"!trestle bridge {network} {channel}")
    await person.wait_for_text(room, "This room is bridged to")
    return room


def joined(person: MatrixUser, room: str) -> set[str]:
    """The nicks whose ghosts are in the room, as the person has seen it."""
    now: dict[str, str] = {}
    for event in person.events:
        if event["type"] == "m.room.member" and event["room_id"] == room:
            now[event["state_key"]] = event["content"]["membership"]
    start = "@_trestle_near_"
    return {
        user.removeprefix(start).partition(":")[0]
        for user, membership in now.items()
        if membership == "join" and user.startswith(start)
    }


async def enter(person: MatrixUser, **options: object) -> str:
    """A room of that kind with the bot in it."""
    room = await person.create_room(preset="public_chat", invite=[BOT], **options)
    await person.wait_until_joined(room, BOT)
    return room


def ghost(nick: str) -> str:
    """The Matrix id of somebody on IRC."""
    return f"@_trestle_near_{nick}:test.example"


async def invitation(person: MatrixUser, sender: str) -> tuple[str, Event]:
    """Wait for an invitation by somebody: the room and the event."""

    def found() -> list[tuple[str, Event]]:
        return [
            (room, event)
            for room, events in person.invitations.items()
            for event in events
            if event["type"] == "m.room.member" and event.get("state_key") == person.id
            and event["sender"] == sender
        ]  # fmt: skip

    await person.wait_until(lambda: bool(found()))
    return found()[0]


async def state(person: MatrixUser, room: str, kind: str) -> dict[str, Any]:
    """What stands in the room, empty for nothing."""
    status, content = await person.try_call("GET", f"v3/rooms/{room}/state/{kind}/")
    return content if status == 200 else {}


async def wait_for_state(
    person: MatrixUser, room: str, kind: str, is_so: Callable[[dict[str, Any]], bool]
) -> None:
    """Wait until what stands in the room is so."""
    found: list[dict[str, Any]] = [await state(person, room, kind)]

    def last() -> bool:
        found.extend(
            event["content"] for event in person.events
            if event["room_id"] == room and event["type"] == kind and event.get("state_key") == ""
        )  # fmt: skip
        return is_so(found[-1])

    await person.wait_until(last)


def power(user: str, level: int) -> Callable[[dict[str, Any]], bool]:
    """Whether somebody has that power, for ``wait_for_state``."""
    return lambda content: content.get("users", {}).get(user, 0) == level


async def wait_for_member(
    person: MatrixUser, room: str, user: str, membership: str
) -> dict[str, Any]:
    """Wait until somebody's membership is so, and give the event."""
    found: list[dict[str, Any]] = []

    def is_so() -> bool:
        found.extend(
            event for event in person.events
            if event["room_id"] == room and event["type"] == "m.room.member"
            and event["state_key"] == user and event["content"]["membership"] == membership
        )  # fmt: skip
        return bool(found)

    await person.wait_until(is_so)
    return found[-1]


async def give_power(person: MatrixUser, room: str, powers: Mapping[str, int]) -> None:
    """Give people power beside what they have."""
    levels = await person.call("GET", f"v3/rooms/{room}/state/m.room.power_levels/")
    await person.set_state(
        room, "m.room.power_levels", {**levels, "users": {**levels["users"], **powers}}
    )


async def redact(user: MatrixUser, room: str, event: str, reason: str = "") -> str:
    """Take an event away; give the id of what does."""
    path = f"v3/rooms/{quote(room)}/redact/{quote(event)}/r{event[1:]}"
    return str((await user.call("PUT", path, {"reason": reason} if reason else {}))["event_id"])


async def react(user: MatrixUser, room: str, event: str, key: str) -> str:
    """React to an event; give the reaction's id."""
    relation = {"rel_type": "m.annotation", "event_id": event, "key": key}
    return await user.send(room, {"m.relates_to": relation}, "m.reaction")


async def reply(user: MatrixUser, room: str, event: str, text: str) -> str:
    """Answer an event, whether the user may see it or not; give the answer's id."""
    relation = {"m.in_reply_to": {"event_id": event}}
    return await user.send(room, {"msgtype": "m.text", "body": text, "m.relates_to": relation})


async def edit(user: MatrixUser, room: str, event: str, text: str) -> str:
    """Change what an event says; give the change's id."""
    return await user.send(
        room,
        {
            "msgtype": "m.text",
            "body": f"* {text}",
            "m.new_content": {"msgtype": "m.text", "body": text},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event},
        },
    )


async def wait_for_typing(user: MatrixUser, room: str, users: list[str]) -> None:
    """Read on until exactly these are writing in the room."""
    since, found = "", [""]
    async with asyncio.timeout(PATIENCE):
        while found != users:
            query = {"timeout": "5000", "since": since} if since else {"timeout": "0"}
            reply = await user.call("GET", "v3/sync", **query)
            since = reply["next_batch"]
            news = reply.get("rooms", {}).get("join", {}).get(room, {})
            for event in news.get("ephemeral", {}).get("events", []):
                if event["type"] == "m.typing":
                    found = event["content"]["user_ids"]
