"""What people write from their own account on a network, their own Matrix account says."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest_asyncio

from bridge.app import App
from bridge.core.logins.logins import record_of
from bridge.demo.matrix_user import Event, MatrixUser
from bridge.matrix.doubles import DOUBLE
from bridge.matrix.history import History
from bridge.model import AuditAction, LoginRow
from bridge.sdk.events import MessageKind, RemoteMessage, RemoteUser
from bridge.sdk.ids import InstanceId, RemoteChatId, RemoteMessageId, RemoteUserId, RoomId, UserId
from bridge.sdk.login import LoginKind
from bridge.sdk.rich import Rich
from bridge.settings.records import DatabaseSettings, Settings
from bridge.storage.doublepuppets import DoublePuppetStore
from bridge.storage.portals import PortalStore
from tests.flow.channels import wait_for_relay
from tests.flow.chats import direct_chat, order
from tests.flow.logins import new_session
from tests.flow.networks import irc_module
from tests.flow.records import acts
from tests.flow.rooms import BOT, bridge, joined
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.services import register, run_services
from tests.rigs.trestle import Town, make_modules, run_town, running, wait_until

NEAR, CARL = InstanceId("near"), RemoteUserId("carl")
CARL_NOW = RemoteUser(id=CARL, name="carl")
WRONG = "of-nobody-at-all"
GHOST = "@_trestle_near_carl:test.example"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def open_town() -> AsyncIterator[Town]:
    """A homeserver whose registration names all its people, and which takes no passwords:
    as it is where an authentication service keeps the accounts."""
    options = {"password_config": {"enabled": False}}
    async with run_town(options, double_puppets=True) as started:
        url = f"{started.synapse.url}/_matrix/client/v3/login"
        async with started.session.get(url) as reply:
            flows = {flow["type"] for flow in (await reply.json())["flows"]}
        assert flows <= {"m.login.application_service"}
        yield started


async def own(app: App, person: MatrixUser) -> LoginRow:
    """Have the account carl on the network be the person's, as the person's client reports."""
    row = await app.parts.accounts.get_or_add_login(NEAR, LoginKind.PERSON, UserId(person.id))
    await app.parts.double_puppets.identify(row, CARL)
    return row


async def end_session(town: Town, token: str) -> None:
    """Sign the session out."""
    async with town.session.post(
        f"{town.synapse.url}/_matrix/client/v3/logout",
        headers={"Authorization": f"Bearer {token}"},
    ) as reply:
        assert reply.status == 200


def check_proof(find: Callable[[Event], InstanceId | None], event: Event) -> None:
    """Only what we said for that person in that room is known again as ours."""
    content = event["content"]
    assert find(event) == NEAR
    for changes in (
        {"sender": "@bea:test.example"}, {"room_id": "!other"},
        {"content": {**content, "org.trestle.id": "other"}},
        {"content": {**content, DOUBLE: {**content[DOUBLE], "instance": "far"}}},
        {"content": {**content, DOUBLE: {**content[DOUBLE], "proof": "other"}}},
        {"content": {**content, DOUBLE: "near"}},
    ):  # fmt: skip
        assert find({**event, **changes}) is None


async def check_read_back(app: App, event: Event) -> None:
    """What was said is found in the room by those who must not say it twice."""
    find = app.parts.double_puppets.find_instance
    history = History(
        app.parts.client, app.parts.namespaces.is_ours, lambda one: find(one) is not None
    )
    room, since = RoomId(event["room_id"]), datetime(2020, 1, 1, tzinfo=UTC)
    found = await history.find_ours(room, [UserId(BOT)], (), since)
    assert found[event["content"]["org.trestle.id"]] == event["event_id"]


async def test_a_double_puppet_speaks_is_not_echoed_and_gives_no_orders(
    open_town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        irc_user(irc.port, "dora") as dora,
    ):
        for user in (carl, dora):
            await user.join("#twin")
        settings = open_town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        alice, bea = await open_town.person("alice"), await open_town.person("bea")

        async def hear(text: str) -> Event:
            carl.say(f"PRIVMSG #twin :{text}")
            return await alice.wait_for_text(room, text)

        async with running(settings) as app:
            room = await bridge(alice, "#twin")
            await bea.join(room)
            row = await own(app, alice)
            await app.parts.vault.put(
                UserId(alice.id), NEAR, record_of(row.id, "nick"), b"alice", login=row.id
            )
            assert (await hear("without leave"))["sender"] == GHOST
            await order(alice, room, "!trestle double-puppet", "from your ghost")
            await order(alice, room, "!trestle double-puppet on", "from your own account")
            said = await hear("as myself")
            assert said["sender"] == alice.id
            check_proof(app.parts.double_puppets.find_instance, said)
            await check_read_back(app, said)
            # Whoever gives orders on the network has no power here.
            assert (await hear("!trestle unbridge"))["sender"] == alice.id
            await order(alice, room, "!trestle ping", "I am here")
            assert app.parts.portals.in_room(RoomId(room))
            # A mark that somebody copies protects nothing and hides nothing.
            await bea.send(room, {**said["content"], "body": "copied by bea"})
            await dora.expect(":copied by bea")
            await alice.say(room, "typed by alice")
            await dora.expect(":typed by alice")
        # It is remembered, and off by a word.
        async with running(settings) as app:
            await wait_for_relay(carl, "#twin")
            assert (await hear("still myself"))["sender"] == alice.id
            await order(alice, room, "!trestle double-puppet off", "from your ghost")
            assert (await hear("a ghost again"))["sender"] == GHOST
            await alice.say(room, "the end")
            await dora.expect(":the end")
    heard = [line for line in dora.heard if "myself" in line or "unbridge" in line]
    assert len(heard) == 3
    assert all(line.startswith(":carl!") for line in heard)


async def _misspell(bob: MatrixUser, chat: str) -> None:
    """Say a token in a wrong command, and in an edit that nobody reads."""
    for words, answer in (
        (f"double-puppet token {WRONG} please", "and then the token alone"),
        (f"double-puppet {WRONG[:5]}", "double-puppet alone, or"),
        (f"duble-pupet token {WRONG}", "I do not know that"),
    ):
        await order(bob, chat, words, answer)
    edit = {"msgtype": "m.text", "body": f"double-puppet token {WRONG}"}
    await bob.send(chat, {
        **edit, "m.new_content": edit,
        "m.relates_to": {"rel_type": "m.replace", "event_id": await bob.say(chat, "ping")},
    })  # fmt: skip
    await order(bob, chat, "ping", "I am here")


async def test_a_token_is_taken_in_a_direct_chat_kept_sealed_and_forgotten(
    town: Town,
    settings: Settings,
    carl: IrcUser,
) -> None:
    await carl.join("#token")
    bob, eve = await town.person("bob"), await town.person("eve")
    async with running(settings) as app:
        room, chat = await bridge(bob, "#token"), await direct_chat(bob)
        await own(app, bob)
        # The registration does not name him, and its way out is a token.
        await order(bob, chat, "double-puppet on", "does not let me act for")
        token = await new_session(town, bob)
        shown = await new_session(town, bob)
        for bad, answer in (
            (WRONG, "does not know this token"),
            (await new_session(town, eve), "belongs to somebody else"),
            (await new_session(town, bob, keys=True), "can read encrypted messages"),
        ):
            await order(bob, chat, f"double-puppet token {bad}", answer)
        await _misspell(bob, chat)
        for words in (f"token {shown}", shown, f"token <{shown}> please"):
            await order(bob, room, f"!trestle double-puppet {words}", "others could read that")
        assert await app.parts.vault.records_of(UserId(bob.id)) == []
        await order(bob, chat, f"double-puppet token {token}", "by the token that you gave")
        await wait_until(lambda: app.parts.sender.waiting == 0)
        left = [str(e["content"]) for e in await bob.messages(chat) + await bob.messages(room)]
        assert not any(word in text for text in left for word in (token, shown, WRONG[:5]))
        assert await app.parts.vault.records_of(UserId(bob.id)) == [("", "double puppet")]
    async with running(settings) as app:
        await wait_for_relay(carl, "#token")
        carl.say("PRIVMSG #token :by a token")
        assert (await bob.wait_for_text(room, "by a token"))["sender"] == bob.id
        await end_session(town, token)
        carl.say("PRIVMSG #token :without one")
        assert (await bob.wait_for_text(room, "without one"))["sender"] == GHOST
        await order(bob, chat, "double-puppet", "does not take the token any more")
        await order(bob, chat, "double-puppet off", "is forgotten")
        await order(bob, chat, "double-puppet off", "is forgotten")  # It was off: no act.
        noted = [(row.actor, row.action, row.target) for row in await acts(app)]
        assert noted[-2:] == [
            (bob.id, AuditAction.DOUBLE_ON, "token"), (bob.id, AuditAction.DOUBLE_OFF, ""),
        ]  # fmt: skip
        assert await app.parts.vault.records_of(UserId(bob.id)) == []
        store = DoublePuppetStore(app.parts.database, settings.state_dir)
        await store.set_puppet(UserId(bob.id), "appservice")
    # What the registration allowed once is seen to be over at the start.
    async with running(settings) as app:
        await wait_until(lambda: app.parts.introduced)
        await order(bob, chat, "double-puppet", "does not let me act for people any more")
        await wait_for_relay(carl, "#token")
        carl.say("PRIVMSG #token :by the ghost")
        assert (await bob.wait_for_text(room, "by the ghost"))["sender"] == GHOST


async def test_who_signed_in_here_speaks_from_other_clients_of_the_account_and_opts_it_out(
    open_town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with (
        run_services() as irc,
        irc_user(irc.port, "phone") as phone,
        irc_user(irc.port, "pad") as pad,
    ):
        await register(irc, "wanda", "opensesame")
        for user in (phone, pad):
            await user.join("#mine")
        settings = open_town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        alice = await open_town.person("alice")
        async with running(settings) as app:
            room = await bridge(alice, "#mine")
            await order(alice, room, "!trestle double-puppet on", "no login of yours has told me")
            logins, instance = app.parts.logins, app.parts.instances[NEAR]
            one = await logins.begin(
                UserId(alice.id), instance, logins.find_flow(instance, "sasl")
            )
            await one.submit({"account": "wanda", "password": "opensesame"})
            assert one.login is not None, one.trouble
            wanda = RemoteUser(
                id=RemoteUserId("phone"), name="phone", account=RemoteUserId("account!wanda")
            )
            doubles = app.parts.double_puppets
            await wait_until(lambda: doubles.find_owner(NEAR, wanda) == alice.id)
            assert "no login" not in doubles.describe(UserId(alice.id))
            pad.say("PRIVMSG #mine :as anybody")
            assert (await alice.wait_for_text(room, "as anybody"))["sender"] != alice.id
            await alice.wait_until(lambda: "pad" in joined(alice, room))
            for user in (phone, pad):
                user.say("PRIVMSG NickServ :IDENTIFY wanda opensesame")
                await user.expect(" 900 ")
            phone.say("PRIVMSG #mine :from my phone")
            assert (await alice.wait_for_text(room, "from my phone"))["sender"] == alice.id
            # What is said of the account holds in all its clients.
            phone.say("PRIVMSG trestle :optout")
            await phone.expect("NOTICE phone", "carried to Matrix any more")
            pad.say("PRIVMSG #mine :between us")
            await alice.wait_until(lambda: "pad" not in joined(alice, room))
            phone.say("PRIVMSG trestle :optin")
            await phone.expect("NOTICE phone", "is carried to Matrix again")
            pad.say("PRIVMSG #mine :from my pad")
            assert (await alice.wait_for_text(room, "from my pad"))["sender"] == alice.id
            assert "between us" not in str(await alice.messages(room))


async def test_whom_a_person_ignores_does_not_get_into_the_persons_private_chat(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    def said(name: str) -> RemoteMessage:
        return RemoteMessage(
            chat=RemoteChatId("private"), id=RemoteMessageId(name), kind=MessageKind.TEXT,
            sender=RemoteUser(id=RemoteUserId(name), name=name),
            body=Rich.plain(f"hello from {name}"), at=datetime(2030, 1, 1, tzinfo=UTC),
        )  # fmt: skip

    async with run_ngircd() as irc:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        bob, cora = await town.person("bob"), await town.person("cora")
        room = await bob.create_room(preset="public_chat", invite=[BOT])
        async with running(settings) as app:
            await bob.wait_until_joined(room, BOT)
            row = await own(app, bob)
            await PortalStore(app.parts.database).add(
                instance=NEAR, chat=RemoteChatId("private"), chat_name="carl",
                room=RoomId(room), receiver=row.id, created_by=UserId(bob.id),
            )  # fmt: skip
            chat = await direct_chat(bob)
            token = await new_session(town, bob)
            await order(bob, chat, f"double-puppet token {token}", "by the token")
        await bob.call(
            "PUT", f"v3/user/{bob.id}/account_data/m.ignored_user_list",
            {"ignored_users": {"@_trestle_near_troll:test.example": {}, cora.id: {}}},
        )  # fmt: skip
        async with running(settings) as app:
            # As a ghost, or as somebody in Matrix whose account on the network it is.
            quinn = RemoteUserId("quinn")
            await app.parts.double_puppets.identify(replace(row, owner=UserId(cora.id)), quinn)
            for name in ("troll", "quinn", "dora"):
                await app.parts.portals.receive(NEAR, row, said(name))
            await bob.wait_for_text(room, "hello from dora")
            heard = str(await bob.messages(room))
            assert "hello from troll" not in heard
            assert "hello from quinn" not in heard
            # Who signs out has not that account any more, which may be somebody else's next.
            double_puppets = app.parts.double_puppets
            other = await app.parts.accounts.link_login(NEAR, UserId(bob.id), "other")
            await app.parts.instances[NEAR].open_login(other)
            await double_puppets.identify(other, RemoteUserId("other"))
            await bob.wait_for_text(chat, "Your login other on near needs you to sign in")
            assert double_puppets.find_owner(NEAR, CARL_NOW) == bob.id
            await order(bob, chat, f"logout {row.id}", "Logged out of near")
            assert double_puppets.find_owner(NEAR, CARL_NOW) is None
            await double_puppets.load()
            known = (RemoteUserId("carl"), RemoteUserId("other"), quinn)
            found = [double_puppets.find_owner(NEAR, RemoteUser(id=one, name="")) for one in known]
            assert found == [None, bob.id, cora.id]
