"""Edits, answers, reactions, deletions and typing, both ways, through a real Synapse."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from bridge import sdk
from bridge.app import App
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.demo.processes import free_port
from bridge.sdk.rich import Link
from bridge.sdk.testing import check_connector
from bridge.settings.records import Address, DatabaseSettings, Settings, WebSettings
from tests.flow.networks import Modules
from tests.flow.rooms import bridge, edit, react, redact, reply, wait_for_typing
from tests.rigs.trestle import Town, make_modules, running, wait_until
from tests.rigs.vivid_bridge import Vivid, VividConnector, person

GHOST = "@_trestle_near_bob:test.example"
HALL = sdk.RemoteChatId("hall")


@pytest.fixture
def modules(vivid: Vivid) -> Modules:
    """The network that can do all there is."""
    return {"near": ("vivid", {})}


async def event_of(user: MatrixUser, room: str, text: str) -> str:
    return str((await user.wait_for_text(room, text))["event_id"])


async def test_a_connector_that_can_do_all_there_is_keeps_the_contract(vivid: Vivid) -> None:
    await check_connector(VividConnector, {}, chat="hall", reachable=True)


async def test_what_is_done_to_messages_crosses_both_ways_once_by_the_networks_own_means(
    town: Town, app: App, vivid: Vivid
) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "hall")
    await _what_alice_does_reaches_the_network(alice, room, vivid)
    await _what_bob_does_is_done_in_the_room(alice, room, vivid)
    # Nothing of that came back: it would stand before this.
    await alice.say(room, "so much for that")
    await vivid.wait_until(lambda network: network.texts()[-1:] == ["so much for that"])
    assert len(vivid.done) == 7
    await _writing_is_shown_both_ways(alice, room, vivid)


async def _what_alice_does_reaches_the_network(alice: MatrixUser, room: str, vivid: Vivid) -> None:
    first = await alice.say(room, "I like teh cat")
    await edit(alice, room, first, "I like the cat")
    reaction = await react(alice, room, first, "👍")
    await reply(alice, room, first, "me too")
    # What is taken back before its turn came would not be said.
    await vivid.wait_until(lambda network: len(network.done) == 4)
    await redact(alice, room, reaction)
    await redact(alice, room, first, "wrong room")
    await vivid.wait_until(lambda network: len(network.done) == 6)
    said, changed, reacted, answered, unreacted, gone = vivid.done
    assert isinstance(said, sdk.Message)
    assert isinstance(changed, sdk.Edit)
    assert (changed.targets, sdk.to_plain(changed.body)) == (("v1",), "I like the cat")
    assert isinstance(reacted, sdk.Reaction)
    assert (reacted.target, reacted.key, reacted.sender.user_id) == ("v1", "👍", alice.id)
    assert isinstance(answered, sdk.Message)
    assert (answered.reply_to, sdk.to_plain(answered.body)) == ("v1", "me too")
    assert isinstance(unreacted, sdk.Redaction)
    assert unreacted.targets == ("v3",)
    assert isinstance(gone, sdk.Redaction)
    assert (gone.targets[0], gone.reason, gone.is_own) == ("v1", "wrong room", True)


async def _what_bob_does_is_done_in_the_room(alice: MatrixUser, room: str, vivid: Vivid) -> None:
    """All at once, so that most of it waits for what it is about."""
    bob = person("Bob")
    target = sdk.RemoteMessageId("b1")
    events: list[sdk.RemoteEvent] = [
        vivid.message("Bob", "b1", "helo"),
        sdk.RemoteEdit(
            chat=HALL, id=sdk.RemoteMessageId("b2"), target=target, sender=bob,
            kind=sdk.MessageKind.TEXT, body=sdk.Rich.plain("hello"), at=said_at(vivid),
        ),
        sdk.RemoteReaction(
            chat=HALL, id=sdk.RemoteMessageId("b3"), target=target, sender=bob, key="🎉"
        ),
        vivid.message("Bob", "b4", "to Alice", reply_to=sdk.RemoteMessageId("v4")),
        vivid.message("Bob", "b5", "to nobody", reply_to=sdk.RemoteMessageId("long gone")),
        vivid.message("Bob", "b6", "oops"),
        sdk.RemoteRedaction(
            chat=HALL, target=sdk.RemoteMessageId("b6"), sender=bob, reason="not here"
        ),
        sdk.RemoteReaction(
            chat=HALL, id=sdk.RemoteMessageId("b7"), target=target, sender=bob, key="❌"
        ),
        sdk.RemoteRedaction(chat=HALL, target=sdk.RemoteMessageId("b7"), sender=bob),
        # What is said twice, as after a reconnection, is done once.
        sdk.RemoteReaction(
            chat=HALL, id=sdk.RemoteMessageId("b3"), target=target, sender=bob, key="🎉"
        ),
        sdk.RemoteRedaction(chat=HALL, target=sdk.RemoteMessageId("b6"), sender=bob),
        vivid.message("Bob", "b8", "the end"),
    ]  # fmt: skip
    for event in events:
        await vivid.receive(event)
    await alice.wait_for_text(room, "the end")
    helo = await event_of(alice, room, "helo")
    (replaced,) = await relations_of(alice, room, "m.replace")
    assert replaced["content"]["m.new_content"]["body"] == "hello"
    assert replaced["content"]["m.relates_to"]["event_id"] == helo
    (there,) = [
        one for one in await relations_of(alice, room, "m.annotation") if one["sender"] == GHOST
    ]
    assert there["content"]["m.relates_to"] == {
        "rel_type": "m.annotation", "event_id": helo, "key": "🎉"
    }  # fmt: skip
    me_too = await event_of(alice, room, "me too")
    to_alice = await alice.wait_for_text(room, "to Alice")
    assert to_alice["content"]["m.relates_to"] == {"m.in_reply_to": {"event_id": me_too}}
    to_nobody = await alice.wait_for_text(room, "to nobody")
    assert "m.relates_to" not in to_nobody["content"]
    redactions = [
        one for one in await alice.messages(room)
        if one["type"] == "m.room.redaction" and one["sender"] == GHOST
    ]  # fmt: skip
    assert len(redactions) == 2
    assert redactions[0]["content"]["reason"] == "not here"
    assert not [e for e in await alice.messages(room) if e["content"].get("body") == "oops"]


async def _writing_is_shown_both_ways(alice: MatrixUser, room: str, vivid: Vivid) -> None:
    path = f"v3/rooms/{quote(room)}/typing/{quote(alice.id)}"
    await alice.call("PUT", path, {"typing": True, "timeout": 30_000})
    await alice.call("PUT", path, {"typing": False})
    await vivid.wait_until(lambda network: len(network.typing) == 2)
    assert [(one.sender.user_id, one.is_typing) for one in vivid.typing] == [
        (alice.id, True), (alice.id, False)
    ]  # fmt: skip
    await vivid.receive(sdk.RemoteTyping(chat=HALL, user=person("Bob"), is_typing=True))
    await wait_for_typing(alice, room, [GHOST])
    await vivid.receive(vivid.message("Bob", "b9", "written"))
    await wait_for_typing(alice, room, [])


async def test_what_a_network_has_no_means_for_is_said_in_words(
    town: Town, app: App, vivid: Vivid
) -> None:
    vivid.levels = {"edits": 0, "replies": 0, "reactions": 0, "redactions": 0}
    alice = await town.person("alice")
    room = await bridge(alice, "hall")
    first = await alice.say(room, "I like teh cat")
    await vivid.wait_until(lambda network: len(network.done) == 1)
    await vivid.receive(vivid.message("Bob", "b1", "which one of all the many cats do you mean"))
    cats = await event_of(alice, room, "which one")
    await edit(alice, room, first, "I like the cat")
    await react(alice, room, cats, "👍")
    await react(alice, room, first, "❓")
    await reply(alice, room, cats, "yours")
    # After so many seconds an answer quotes, and so it does not for the last that was said.
    await vivid.wait_until(lambda network: len(network.done) == 5)
    vivid.limits = {"quote_after": 0}
    await reply(alice, room, cats, "not mine")
    await vivid.wait_until(lambda network: len(network.done) == 6)
    await vivid.receive(vivid.message("Bob", "b2", "the last word"))
    last = await event_of(alice, room, "the last word")
    await reply(alice, room, last, "no, mine")
    gone = await alice.say(room, "secret")
    await vivid.wait_until(lambda network: network.texts()[-1:] == ["secret"])
    await redact(alice, room, gone)
    await redact(alice, room, cats)
    await vivid.wait_until(lambda network: len(network.done) == 10)
    assert vivid.texts() == [
        "I like teh cat",
        "s/teh/the/",
        'reacted with 👍 to "which one of all the many cats do you me…"',
        'reacted with ❓ to "I like the cat"',
        "Bob: yours",
        'Bob ("which one of all the many cats do you me…"): not mine',
        "Bob: no, mine",
        "secret",
        "took back a message",
        "deleted a message of Bob",
    ]
    # Where the module can do less than it says, the core says it; what is dropped makes no noise.
    vivid.levels = {"edits": 1, "reactions": -1, "redactions": -2}
    vivid.unsupported = True
    await react(alice, room, first, "👎")
    await edit(alice, room, first, "I like the dog")
    # What is deleted is not quoted any more, whatever waits to be said of it.
    await vivid.wait_until(lambda network: len(network.texts()) == 11)
    await redact(alice, room, first)
    await alice.wait_for_text(room, "Your deletion did not reach hall on near: deletions do not")
    assert vivid.texts()[10:] == ["s/cat/dog/"]
    await _a_flood_is_stopped(app, alice, room, vivid)
    # In a room whose past is not for all, nothing of it is quoted.
    vivid.levels, vivid.unsupported = {}, False
    await alice.set_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
    await vivid.receive(vivid.message("Bob", "b3", "between us"))
    between = await event_of(alice, room, "between us")
    await alice.say(room, "well")
    await reply(alice, room, between, "sure")
    await vivid.wait_until(lambda network: network.texts()[-1:] == ["Bob: sure"])


async def _what_waits_to_be_tried_again_is_stopped(
    alice: MatrixUser, room: str, vivid: Vivid
) -> None:
    vivid.is_away, vivid.waits = True, False
    await alice.say(room, "one line")
    await vivid.wait_until(lambda network: network.waits)
    await alice.say(room, "STOP")
    await alice.wait_until(lambda: len(_told(alice, room, "Stopped: the rest")) == 2)
    vivid.is_away = False
    await alice.say(room, "another")
    await vivid.wait_until(lambda network: network.texts()[12:] == ["STOP", "another"])


def _told(person: MatrixUser, room: str, text: str) -> list[str]:
    said = (str(one["content"].get("body")) for one in person.heard(room))
    return [one for one in said if one.startswith(text)]


async def _a_flood_is_stopped(app: App, alice: MatrixUser, room: str, vivid: Vivid) -> None:
    vivid.is_swift.clear()
    for number in range(5):
        await alice.say(room, f"flood {number}")
    await vivid.wait_until(lambda network: network.waits)
    await alice.say(room, "STOP")
    await alice.wait_for_text(room, "Stopped: the rest is not sent to hall.")
    assert vivid.texts()[11:] == ["flood 0"]
    await alice.say(room, "STOP")
    await vivid.wait_until(lambda network: network.texts()[11:] == ["flood 0", "STOP"])
    await _what_waits_to_be_tried_again_is_stopped(alice, room, vivid)
    # What is taken back while it waits is not said any more.
    vivid.is_swift.clear()
    await alice.say(room, "slow")
    await vivid.wait_until(lambda network: network.waits)
    await redact(alice, room, await alice.say(room, "a slip"))
    await alice.say(room, "well")
    await wait_until(lambda: "well" in waiting(app))
    vivid.is_swift.set()
    await vivid.wait_until(lambda network: network.texts()[-1:] == ["well"])
    assert vivid.texts()[-2:] == ["slow", "well"]


def waiting(app: App) -> list[str]:
    """What is in lanes and waits for its turn."""
    lanes = app.parts.router.lanes.values()
    return [item.event["content"].get("body", "") for lane in lanes for item in lane.queue]


def said_at(vivid: Vivid) -> Any:
    assert vivid.relay is not None
    return vivid.relay.now()


async def relations_of(user: MatrixUser, room: str, kind: str) -> list[dict[str, Any]]:
    return [
        event for event in await user.messages(room)
        if event["content"].get("m.relates_to", {}).get("rel_type") == kind
        and event["sender"] != user.id
    ]  # fmt: skip


async def test_polls_and_places_cross_in_words(town: Town, app: App, vivid: Vivid) -> None:
    alice = await town.person("alice")
    room = await bridge(alice, "hall")
    poll, text = "org.matrix.msc3381.poll.start", "org.matrix.msc1767.text"
    answers = [{"id": "1", text: "Tea"}, {"id": "2", text: "Coffee\nwith milk"}]
    await alice.send(
        room, {poll: {"question": {text: "Tea or coffee?"}, "answers": answers}}, poll
    )
    stable = {
        "question": {
            "m.text": [{"body": "<b>Now?</b>", "mimetype": "text/html"}, {"body": "Now?"}]
        },
        "answers": [{"m.id": "a", "m.text": [{"body": "yes"}]}, {"m.id": "b"}, "no"],
    }
    await alice.send(room, {"m.poll": stable}, "m.poll.start")
    broken_ones: list[Any] = [
        {}, {"question": {"m.text": [1]}}, {"question": 1, "answers": 1}, [],
    ]  # fmt: skip
    for broken in broken_ones:
        await alice.send(room, {"m.poll": broken, "n": 1}, "m.poll.start")
    place = {"msgtype": "m.location", "geo_uri": "geo:48.2,16.4"}
    await alice.send(room, place | {"body": "Location geo:48.2,16.4"})
    await alice.send(room, place | {"body": "At the fountain"})
    await vivid.wait_until(lambda network: len(network.done) == 4)
    assert vivid.texts() == [
        "Poll: Tea or coffee? (1) Tea (2) Coffee with milk", "Poll: Now? (1) yes",
        "Location geo:48.2,16.4", "At the fountain (geo:48.2,16.4)",
    ]  # fmt: skip


async def test_pictures_and_long_texts_cross_as_links_that_lead_nowhere_else(
    town: Town, folder: Path, database_settings: DatabaseSettings, vivid: Vivid
) -> None:
    settings = with_links(town, folder, database_settings)
    web = settings.web
    async with running(settings):
        alice = await town.person("alice")
        room = await bridge(alice, "hall")
        picture = await upload(town, alice, PICTURE, "image/png")
        page = await upload(town, alice, b"<script>alert(1)</script>", "text/html")
        image = {"msgtype": "m.image", "body": "cat.png", "url": picture}
        await alice.send(room, image)
        await alice.send(room, image | {"body": "my *cat*", "filename": "c a/t.png"})
        await alice.send(room, {"msgtype": "m.file", "body": "\u202ex.html", "url": page})
        await alice.send(room, {"body": "hi", "url": picture, "info": {}}, "m.sticker")
        await alice.say(room, "too long " * 100 + "\nsecond")
        hidden = "<span data-mx-spoiler>the butler</span> " + "too long " * 100
        await alice.say(room, "the butler " + "too long " * 100, hidden)
        await vivid.wait_until(lambda network: len(network.done) == 6)
        links = [link_in(one) for one in vivid.done]
        assert vivid.texts()[0] == f"cat.png ({links[0]})"
        assert vivid.texts()[1] == f"my *cat* c a/t.png ({links[1]})"
        assert vivid.texts()[2] == f"x.html ({links[2]})"
        assert vivid.texts()[4].startswith("too long too long")
        assert vivid.texts()[4].endswith(f"… all 2 lines ({links[4]})")
        assert vivid.texts()[5].startswith("[spoiler] too long too long")

        answers = [await fetch(town, web, link) for link in links]
        assert answers[0][:2] == (200, PICTURE)
        headers = answers[0][2]
        assert headers["Content-Type"] == "image/png"
        assert headers["Content-Disposition"] == "inline; filename*=utf-8''cat.png"
        assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        # What could run is only given to be kept.
        assert answers[2][1] == b"<script>alert(1)</script>"
        assert answers[2][2]["Content-Type"] == "application/octet-stream"
        assert answers[2][2]["Content-Disposition"].startswith("attachment")
        assert answers[4][1].decode() == "too long " * 100 + "\nsecond"
        assert answers[4][2]["Content-Type"] == "text/plain; charset=utf-8"
        # Nobody makes a link of their own.
        start, until, server, media, mark, signature, name = links[0].rsplit("/", 6)
        other_mark = links[1].rsplit("/", 3)[1]
        assert other_mark != mark
        for forged in (
            f"{start}/{int(until) + 1}/{server}/{media}/{mark}/{signature}/{name}",
            f"{start}/{until}/{server}/{page.rpartition('/')[2]}/{mark}/{signature}/{name}",
            f"{start}/{until}/{server}/{media}/{other_mark}/{signature}/{name}",
            f"{start}/{until}/{server}/{media}/-/{signature}/{name}",
            f"{start}/{until}/{server}/{media}/{mark}/{signature[:-1]}/{name}",
            f"{start}/{until}/{server}/{media}/{mark}/{signature}/other.png",
            f"{start}/{until}/{server}/..%2f..%2fv3/{mark}/{signature}/{name}",
        ):
            assert await is_over(town, web, forged), forged


async def test_who_sends_a_picture_where_there_is_no_public_page_reads_what_helps(
    town: Town, folder: Path, database_settings: DatabaseSettings, vivid: Vivid
) -> None:
    modules = make_modules({"near": ("vivid", {})})
    alice = await town.person("alice")
    async with running(town.settings_for(folder, database_settings, modules=modules)):
        room = await bridge(alice, "hall")
        await alice.send(room, {"msgtype": "m.image", "body": "cat.png", "url": "mxc://a.b/c"})
        told = await alice.wait_for_text(room, "pictures, files and the like cross")
        assert "Whoever runs it can set one (web.public_url)" in told["content"]["body"]
    assert not vivid.done


async def test_what_is_deleted_or_replaced_is_seen_by_no_link_any_more_also_after_a_restart(
    town: Town, folder: Path, database_settings: DatabaseSettings, vivid: Vivid
) -> None:
    settings = with_links(town, folder, database_settings)
    web = settings.web
    alice = await town.person("alice")
    picture = await upload(town, alice, PICTURE, "image/png")
    image = {"msgtype": "m.image", "body": "cat.png", "url": picture}
    async with running(settings):
        room = await bridge(alice, "hall")
        kept, gone, replaced = [await alice.send(room, image) for _ in range(3)]
        long = await alice.say(room, "too long " * 100)
        await vivid.wait_until(lambda network: len(network.done) == 4)
        of_kept, of_gone, of_replaced, of_long = links = [link_in(one) for one in vivid.done]
        assert [(await fetch(town, web, link))[0] for link in links] == [200] * 4

        other = image | {"body": "dog.png", "url": await upload(town, alice, b"GIF", "image/gif")}
        await replace_media(alice, room, replaced, other)
        await replace_media(alice, room, kept, image | {"body": "my cat", "filename": "cat.png"})
        await vivid.wait_until(lambda network: len(network.done) == 6)
        assert await is_over(town, web, of_replaced)

        # At once, though the network takes nothing.
        vivid.is_swift.clear()
        await alice.say(room, "what takes its time")
        hasty = await alice.send(room, image)
        for event in (hasty, gone, long):
            await redact(alice, room, event)
        for link in (of_gone, of_long):
            await wait_until_over(town, web, link)
        vivid.is_swift.set()
        await vivid.wait_until(lambda network: len(network.done) == 9)
        # Of what was taken back before its turn came there is no link.
        assert all(isinstance(one, sdk.Redaction) for one in vivid.done[7:])
    async with running(settings):
        for link in (of_gone, of_long, of_replaced):
            assert await is_over(town, web, link), link
        # The same picture, but of a message that is still there.
        assert (await fetch(town, web, of_kept))[:2] == (200, PICTURE)


async def test_where_a_relay_speaks_the_picture_of_the_person_goes_along(
    town: Town, folder: Path, database_settings: DatabaseSettings, vivid: Vivid
) -> None:
    settings = with_links(town, folder, database_settings)
    web = settings.web
    async with running(settings):
        alice = await town.person("alice")
        room = await bridge(alice, "hall")
        face, mask = PICTURE + b"face", PICTURE + b"mask"
        faces = {"avatar_url": await upload(town, alice, face, "image/png")}
        await alice.call("PUT", f"v3/profile/{alice.id}/avatar_url", faces)
        await alice.say(room, "by an account of one's own")
        await vivid.wait_until(lambda network: len(network.done) == 1)
        await alice.say(room, "!trestle set puppets relay")
        await alice.wait_for_text(room, "puppets is relay")
        await alice.say(room, "seen")
        profile = {"id": "cat", "displayname": "Cat"}
        masks = {"avatar_url": await upload(town, alice, mask, "image/png")}
        profiles = {"com.beeper.per_message_profile": profile | masks}
        await alice.send(room, {"msgtype": "m.text", "body": "behind a mask"} | profiles)
        await vivid.wait_until(lambda network: len(network.done) == 3)
        own, *relayed = [one.sender.avatar for one in vivid.done]
        assert own is None
        assert [(await fetch(town, web, link or ""))[1] for link in relayed] == [face, mask]


def with_links(town: Town, folder: Path, database: DatabaseSettings) -> Settings:
    """With a public page, which opens links."""
    web = WebSettings(
        public_url="https://public.example", public_listen=Address("127.0.0.1", free_port())
    )
    modules = make_modules({"near": ("vivid", {})})
    return town.settings_for(folder, database, modules=modules, web=web)


PICTURE = b"\x89PNG\r\n\x1a\n" + b"\0" * 1000


async def upload(town: Town, user: MatrixUser, content: bytes, kind: str) -> str:
    """Put something into the homeserver's media repository, as its clients do."""
    async with town.session.post(
        f"{town.synapse.url}/_matrix/media/v3/upload",
        data=content,
        headers={"Authorization": f"Bearer {user._token}", "Content-Type": kind},
    ) as response:
        return str((await response.json())["content_uri"])


def link_in(said: object) -> str:
    assert isinstance(said, sdk.Message)
    (link,) = [node for node in said.body.nodes if isinstance(node, Link)]
    return link.url


async def replace_media(user: MatrixUser, room: str, event: str, content: dict[str, Any]) -> None:
    relation = {"rel_type": "m.replace", "event_id": event}
    await user.send(room, content | {"m.new_content": content, "m.relates_to": relation})


async def is_over(town: Town, web: WebSettings, link: str) -> bool:
    """Whether the link leads nowhere, as one that was never made."""
    status, text, _ = await fetch(town, web, link)
    return status == 404 and b"This link is not good, or not any more." in text


async def wait_until_over(town: Town, web: WebSettings, link: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await is_over(town, web, link):
            await asyncio.sleep(0.02)


async def fetch(town: Town, web: WebSettings, link: str) -> tuple[int, bytes, Mapping[str, str]]:
    """Open a link of the public origin, as the proxy before it passes it on."""
    address = web.public_listen
    path = link.removeprefix("https://public.example")
    url = URL(f"http://{address}{path}", encoded=True)
    async with town.session.get(url, allow_redirects=False) as response:
        return response.status, await response.read(), response.headers
