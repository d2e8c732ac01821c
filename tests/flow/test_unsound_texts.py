"""Texts that UTF-8 cannot hold (half of a surrogate pair), or a database cannot (NUL), in whatever
an event has: JSON can have them, and homeservers of other kinds pass them on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from bridge import sdk
from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.demo.processes import free_port
from bridge.model import SystemClock
from bridge.settings.records import Address, DatabaseSettings, Settings, WebSettings
from tests.flow.chats import direct_chat
from tests.flow.rooms import bridge
from tests.rigs.trestle import Town, deliver, make_modules, running
from tests.rigs.vivid_bridge import Vivid, VividClient

HALF = "a\ud83d\0b"
WHOLE = "a\ufffdb"
"""What a module gets instead."""


@pytest_asyncio.fixture
async def settings(
    town: Town, folder: Path, database_settings: DatabaseSettings, vivid: Vivid
) -> Settings:
    web = WebSettings(
        public_url="https://public.example", public_listen=Address("127.0.0.1", free_port())
    )
    modules = make_modules({"near": ("vivid", {})})
    return town.settings_for(folder, database_settings, modules=modules, web=web)


class Sender:
    """Puts events to Trestle as a homeserver does that looks at no text."""

    def __init__(self, settings: Settings, person: MatrixUser, room: str) -> None:
        self._settings = settings
        self._person = person
        self._room = room
        self._number = 0

    async def put(self, kind: str, content: Mapping[str, Any], **more: Any) -> str:
        """Put one event; give its id."""
        self._number += 1
        event_id = f"$unsound{self._number}"
        event = {
            "type": kind, "event_id": event_id, "room_id": self._room, "sender": self._person.id,
            "content": content, **more,
            "origin_server_ts": int(SystemClock().now().timestamp() * 1000),
        }  # fmt: skip
        await deliver(self._settings, event_id[1:], [event])
        return event_id

    async def say(self, text: str = "hello", **more: Any) -> str:
        """Say something."""
        return await self.put("m.room.message", {"msgtype": "m.text", "body": text, **more})

    async def redact(self, target: str, reason: str) -> str:
        """Take something back."""
        content = {"redacts": target, "reason": reason}
        return await self.put("m.room.redaction", content, redacts=target)


def relation(target: str, **more: Any) -> dict[str, Any]:
    """What relates to an event."""
    return {"m.relates_to": {"event_id": target, **more}}


async def test_such_texts_in_acts_reach_a_network_as_texts(
    town: Town, settings: Settings, app: App, vivid: Vivid
) -> None:
    alice = await town.person("alice")
    sender = Sender(settings, alice, await bridge(alice, "hall"))
    first = await sender.say(HALF)
    await sender.put("m.reaction", relation(first, rel_type="m.annotation", key=f" {HALF} {HALF}"))
    await vivid.wait_until(lambda network: len(network.done) == 2)
    await sender.redact(first, HALF)
    file = {"msgtype": "m.file", "url": "mxc://test.example/abc", "filename": HALF}
    await sender.put("m.room.message", {**file, "body": f"see {HALF}"})
    # Not even an id need be one.
    await sender.put("m.reaction", relation(HALF, rel_type="m.annotation", key="x"))
    await sender.redact(HALF, "none")
    await sender.say("an answer", **{"m.relates_to": {"m.in_reply_to": {"event_id": HALF}}})
    await sender.say(
        "* new", **{"m.new_content": {"msgtype": "m.text", "body": "new"}},
        **relation(HALF, rel_type="m.replace"),
    )  # fmt: skip
    await sender.say("done")
    await vivid.wait_until(lambda network: network.texts()[-1:] == ["done"])
    said, reacted, gone, media, *others = vivid.done
    assert isinstance(said, sdk.Message)
    assert sdk.to_plain(said.body) == WHOLE
    assert isinstance(reacted, sdk.Reaction)
    assert reacted.key == f"{WHOLE} {WHOLE}"
    assert isinstance(gone, sdk.Redaction)
    assert gone.reason == WHOLE
    assert isinstance(media, sdk.Message)
    assert f"see {WHOLE} " in sdk.to_plain(media.body)
    assert [sdk.to_plain(one.body) for one in others if isinstance(one, sdk.Message)] == [
        "an answer", "done",
    ]  # fmt: skip


async def test_such_texts_in_a_name_or_in_words_reach_a_network_as_texts(
    town: Town, settings: Settings, app: App, vivid: Vivid
) -> None:
    vivid.levels = {"edits": 0, "reactions": 0, "redactions": 0}
    alice = await town.person("alice")
    room = await bridge(alice, "hall")
    sender = Sender(settings, alice, room)
    await sender.put(
        "m.room.member", {"membership": "join", "displayname": HALF}, state_key=alice.id
    )
    first = await sender.say()
    await sender.put("m.reaction", relation(first, rel_type="m.annotation", key=HALF))
    # What is taken back before its turn came would not be said.
    await vivid.wait_until(lambda network: len(network.done) == 2)
    await sender.redact(first, HALF)
    await vivid.wait_until(lambda network: len(network.done) == 3)
    assert {one.sender.name for one in vivid.done} == {WHOLE}
    assert f"reacted with {WHOLE}" in vivid.texts()
    assert all("\ud83d" not in text and "\0" not in text for text in vivid.texts())


async def test_an_edit_of_what_can_be_no_event_is_no_crash(
    town: Town, settings: Settings, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await town.person("alice")
    room = await direct_chat(alice)
    sender = Sender(settings, alice, room)
    new = {"msgtype": "m.text", "body": "new"}
    await sender.say("* new", **{"m.new_content": new}, **relation(HALF, rel_type="m.replace"))
    await sender.say(f"help {HALF}")
    await alice.wait_for_text(room, f"called '{WHOLE}' here")
    assert "UnicodeEncodeError" not in caplog.text


class Governor(VividClient):
    """A login that changes chats, too: it writes down with what words."""

    heard: ClassVar[list[str]] = []

    async def set_topic(self, chat: sdk.RemoteChat, topic: str) -> None:
        """Take a topic."""
        self.heard.append(topic)

    async def set_rank(
        self, chat: sdk.RemoteChat, person: sdk.RemoteUserId | sdk.UserId, rank: sdk.Rank
    ) -> None:
        """Take a rank, of which nothing is said here."""

    async def remove(
        self,
        chat: sdk.RemoteChat,
        person: sdk.RemoteUserId | sdk.UserId,
        how: sdk.Removal,
        reason: str,
    ) -> None:
        """Take a kick."""
        self.heard.append(reason)


async def test_such_texts_in_state_reach_a_network_as_texts(
    town: Town, settings: Settings, vivid: Vivid
) -> None:
    Governor.heard.clear()
    vivid.client = Governor
    async with running(settings):
        alice = await town.person("alice")
        sender = Sender(settings, alice, await bridge(alice, "hall"))
        await sender.put("m.room.topic", {"topic": HALF}, state_key="")
        await vivid.wait_until(lambda _: len(Governor.heard) == 1)
        ghost = "@_trestle_near_bob:test.example"
        kick = {"membership": "leave", "reason": HALF}
        await sender.put("m.room.member", kick, state_key=ghost)
        await vivid.wait_until(lambda _: len(Governor.heard) == 2)
    assert Governor.heard == [WHOLE, f"{WHOLE} ({alice.id})"]
