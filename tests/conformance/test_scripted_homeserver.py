"""The scripted homeserver answers what we ask of any as Synapse does, where no rule says else."""

import itertools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.rigs.scripted_homeserver import SERVER, scripted_homeserver
from tests.rigs.trestle import Town

SAID = {"msgtype": "m.text", "body": "said"}


class Asking:
    """Asks a homeserver as an application service does, and notes what is answered."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self.answers: list[tuple[str, int, Any]] = []

    async def ask(
        self, session: aiohttp.ClientSession, method: str, *parts: str, user: str = "",
        content: Any = None, **query: str,
    ) -> Any:  # fmt: skip
        """Ask; give the answer."""
        path = "/".join(quote(part, safe="") for part in parts)
        query |= {"user_id": user} if user else {}
        async with session.request(
            method, f"{self._url}/_matrix/client/v3/{path}", params=query, json=content,
            headers=self._headers,
        ) as response:  # fmt: skip
            answer = await response.json()
            self.answers.append((f"{method} {parts}", response.status, answer))
            return answer


async def live_late(ask: Callable[..., Awaitable[Any]], room: str, name: str) -> None:
    """Say what was said long ago, as often as a lost answer has us say it."""
    send = ("PUT", "rooms", room, "send", "m.room.message")
    said = [
        (await ask(*send, f"{name}late", content=SAID | {"body": "late"}, **query))["event_id"]
        for query in (*[{"ts": "1600000000123"}] * 2, {"ts": "1700000000456"}, {})
    ]  # fmt: skip
    assert len(set(said)) == 1
    await ask(*send, f"{name}never", content=SAID, ts="-1")
    await ask(*send, f"{name}now", content=SAID | {"body": "now"})
    reply = await ask("GET", "rooms", room, "messages", dir="b", limit="2")
    # It stands where it came in, whatever its time.
    now, late = reply["chunk"][:2]
    assert [one["content"]["body"] for one in (now, late)] == ["now", "late"]
    assert now["origin_server_ts"] > late["origin_server_ts"] == 1600000000123


async def live(asking: Asking, name: str) -> None:
    """Have two users and a room, and ask for all that there is an answer to."""
    ann, bob = (f"@_trestle_{name}{one}:{SERVER}" for one in ("ann", "bob"))
    alias, nowhere = f"#_trestle_{name}:{SERVER}", f"#_trestle_{name}nowhere:{SERVER}"
    numbers = itertools.count(1)
    async with aiohttp.ClientSession() as session:

        async def ask(method: str, *parts: str, **more: Any) -> Any:
            return await asking.ask(session, method, *parts, **{"user": ann, **more})

        async def register(user: str) -> None:
            account = {"type": "m.login.application_service", "inhibit_login": True,
                       "username": user[1:].partition(":")[0]}  # fmt: skip
            await ask("POST", "register", content=account, user="")

        for user in (ann, bob, ann):
            await register(user)
        await ask("GET", "account", "whoami")
        await ask("GET", "profile", f"@_trestle_{name}nobody:{SERVER}", "displayname")
        await ask("PUT", "profile", ann, "displayname", content={"displayname": "Ann"})
        await ask("GET", "profile", ann, "displayname")

        made = {"preset": "public_chat", "room_alias_name": alias[1:].partition(":")[0]}
        room = (await ask("POST", "createRoom", content=made))["room_id"]
        await ask("POST", "createRoom", content=made)
        for method in ("GET", "PUT", "DELETE", "GET", "DELETE", "PUT", "GET"):
            content = {"room_id": room} if method == "PUT" else None
            await ask(method, "directory", "room", alias, content=content)
        await ask("GET", "directory", "room", nowhere)
        await ask("GET", "rooms", room, "aliases")

        await ask("POST", "rooms", room, "join", content={}, user=bob)
        ids = [
            (await ask("PUT", "rooms", room, "send", "m.room.message", f"{name}{one}",
                       content=SAID | {"body": body}))["event_id"]
            for one, body in ((1, "first"), (1, "not first"), (2, "second"))
        ]  # fmt: skip
        assert ids[0] == ids[1] != ids[2]
        await ask("GET", "rooms", room, "messages", dir="b", limit="1")
        await live_late(ask, room, name)
        await ask("PUT", "rooms", room, "redact", ids[0], f"r{next(numbers)}", content={})
        topic = ("rooms", room, "state", "m.room.topic", "")
        await ask("GET", *topic)
        await ask("PUT", *topic, content={"topic": "walks"})
        await ask("GET", "rooms", room, "state", "m.room.join_rules", "")
        await ask("GET", "rooms", room, "state")
        await ask("GET", "rooms", room, "state", "m.room.member", bob, format="event")
        await ask("GET", "rooms", room, "state", "m.room.member", bob)
        there = [await ask("GET", "rooms", room, "joined_members")]
        await ask("POST", "rooms", room, "leave", content={}, user=bob)
        there.append(await ask("GET", "rooms", room, "joined_members"))
        assert [set(one["joined"]) for one in there] == [{ann, bob}, {ann}]
        for user in (ann, bob):
            joined = await ask("GET", "joined_rooms", user=user)
            assert joined == {"joined_rooms": [room] if user == ann else []}


def is_like(ours: Any, theirs: Any) -> bool:
    """Whether theirs has all that ours has, of the same kind: ours may say less."""
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(
            key in theirs and is_like(value, theirs[key]) for key, value in ours.items()
        )
    if isinstance(ours, list):
        return isinstance(theirs, list) and all(
            any(is_like(one, other) for other in theirs) for one in ours
        )
    return type(ours) is type(theirs)


async def test_the_scripted_homeserver_answers_as_synapse_does(town: Town) -> None:
    name = f"like{secrets.token_hex(4)}"
    real = Asking(town.synapse.url, town.settings.appservice.as_token.reveal())
    await live(real, name)
    async with scripted_homeserver() as homeserver:
        scripted = Asking(homeserver.url, "any")
        await live(scripted, name)
    assert len(scripted.answers) == len(real.answers) > 25
    differing = [
        (asked, ours, theirs)
        for (asked, *ours), (_, *theirs) in zip(scripted.answers, real.answers, strict=True)
        if ours[0] != theirs[0]
        or not is_like(ours[1], theirs[1])
        or (ours[0] >= 400 and ours[1]["errcode"] != theirs[1]["errcode"])
    ]
    assert differing == []
