"""The hosts for module authors' tests keep the rules of the real ones."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from bridge.bots.dice.bot import DiceBot
from bridge.bots.dice.settings import DiceSettings
from bridge.sdk import (
    Host,
    LoginRequired,
    LoginState,
    Message,
    MessageKind,
    ModeratorWish,
    ModuleNotReady,
    PermanentFailure,
    Rank,
    Receipt,
    RemoteAccess,
    RemoteChat,
    RemoteChatId,
    RemoteEdit,
    RemoteEvent,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteMessageId,
    RemoteRanks,
    RemoteReaction,
    RemoteRedaction,
    RemoteRemoval,
    RemoteRename,
    RemoteTopic,
    RemoteTyping,
    RemoteUser,
    RemoteUserId,
    Removal,
    Rich,
    UserId,
    Wish,
)
from bridge.sdk.testing import FakeBotHost, FakeClock, FakeHost, FakeRoom, FakeStore, running

CHAT = RemoteChatId("#chat")
BOB = RemoteUser(id=RemoteUserId("bob"), name="Bob")
ROB = RemoteUser(id=RemoteUserId("rob"), name="Rob")


def said(host: FakeHost, text: str, number: str = "1", sender: RemoteUser = BOB) -> RemoteMessage:
    return RemoteMessage(
        chat=CHAT,
        id=RemoteMessageId(number),
        sender=sender,
        kind=MessageKind.TEXT,
        body=Rich.plain(text),
        at=host.now(),
    )


async def test_the_same_message_twice_stands_in_the_room_once() -> None:
    host = FakeHost()
    for text, number in (("one", "1"), ("one", "1"), ("two", "2")):
        await host.receive(said(host, text, number))
    assert host.texts == ["Bob: one", "Bob: two"]
    assert len(host.received) == 3


async def test_people_come_go_and_rename_as_in_a_real_room() -> None:
    host = FakeHost()
    await host.receive(RemoteJoin(chat=CHAT, user=BOB))
    await host.receive(RemoteRename(chat=CHAT, old=BOB, new=ROB))
    assert host.people[CHAT] == {"rob": "Rob"}
    await host.receive(RemoteLeave(chat=CHAT, user=BOB))
    await host.receive(RemoteRename(chat=CHAT, old=BOB, new=BOB))
    assert host.people[CHAT] == {"rob": "Rob"}
    await host.receive(RemoteMembers(chat=CHAT, users=(BOB,)))
    assert host.people[CHAT] == {"bob": "Bob"}


async def test_what_a_chat_is_and_who_runs_it_is_kept_as_it_was_told_last() -> None:
    host = FakeHost()
    await host.receive(RemoteTopic(chat=CHAT, topic="old", is_news=False))
    await host.receive(RemoteTopic(chat=CHAT, topic="new"))
    await host.receive(RemoteAccess(chat=CHAT, listed=True, open=False))
    ranks = {BOB.id: Rank.MODERATOR, ROB.id: Rank.VOICED}
    await host.receive(RemoteRanks(chat=CHAT, ranks=ranks, is_all=True))
    await host.receive(RemoteRanks(chat=CHAT, ranks={ROB.id: Rank.NONE}))
    removal = RemoteRemoval(chat=CHAT, user=UserId("@a:hs"), by=BOB, how=Removal.KICK)
    await host.receive(removal)
    assert (host.topics[CHAT], host.access[CHAT].open) == ("new", False)
    assert (host.ranks[CHAT], host.removals) == ({BOB.id: Rank.MODERATOR}, [removal])


async def test_wishes_of_those_who_run_a_chat_are_heard_and_answered() -> None:
    host = FakeHost()
    chat = RemoteChat(id=CHAT, name="#Chat")
    wish = ModeratorWish(chat=chat, moderator=BOB, wish=Wish.BLOCK, about="eve")
    assert await host.obey(wish)
    host.refuse_next(PermanentFailure("nobody is called eve"))
    with pytest.raises(PermanentFailure):
        await host.obey(wish)
    assert host.wishes == [wish]
    with pytest.raises(AssertionError, match="needs to know about whom"):
        await host.obey(ModeratorWish(chat=chat, moderator=BOB, wish=Wish.BLOCK))


async def test_what_comes_from_a_chat_that_is_not_bridged_is_ignored() -> None:
    host = FakeHost(chats={"#other"})
    await host.receive(said(host, "one"))
    assert (host.received, len(host.ignored)) == ([], 1)


async def test_a_refusal_is_raised_once() -> None:
    host = FakeHost()
    host.refuse_next(PermanentFailure("too large"))
    with pytest.raises(PermanentFailure):
        await host.receive(said(host, "one"))
    await host.receive(said(host, "one"))
    assert host.texts == ["Bob: one"]


async def test_without_its_database_the_host_lets_the_network_wait() -> None:
    host = FakeHost()
    host.stop_storing()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(host.receive(said(host, "one")))
        await asyncio.wait({waiting}, timeout=0.05)
        assert (waiting.done(), host.texts) == (False, [])
        host.store_again()
    assert host.texts == ["Bob: one"]


def reacted(*, target: str = "1", key: str = "+1", id_: str = "r") -> RemoteReaction:
    return RemoteReaction(
        chat=CHAT, id=RemoteMessageId(id_), target=RemoteMessageId(target), sender=BOB, key=key
    )


async def test_what_is_done_to_a_message_is_done_in_the_room_once() -> None:
    host = FakeHost()
    await host.receive(said(host, "one"))
    (first,) = host.messages
    for _ in range(2):
        await host.receive(reacted(target=first.id))
    changed = RemoteEdit(
        chat=CHAT, id=RemoteMessageId("e"), target=first.id, sender=BOB,
        kind=MessageKind.TEXT, body=Rich.plain("two"), at=host.now(),
    )  # fmt: skip
    await host.receive(changed)
    assert (host.texts, [one.key for one in host.reactions]) == (["Bob: two"], ["+1"])
    for is_typing, writing in ((True, {BOB.id}), (False, set())):
        await host.receive(RemoteTyping(chat=CHAT, user=BOB, is_typing=is_typing))
        assert host.typing[CHAT] == writing
    for target in (first.id, RemoteMessageId("r")):
        await host.receive(RemoteRedaction(chat=CHAT, target=target, sender=BOB))
    assert (host.texts, host.reactions) == ([], [])


NAIVE = datetime.fromisoformat("2030-01-01")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda host: "hello", "takes one of the sdk's RemoteEvents"),
        (lambda host: said(host, "one", ""), "without an id the same message"),
        (lambda host: said(host, "\ud800"), "half a character"),
        (
            lambda host: said(host, "one", sender=RemoteUser(id=RemoteUserId(""), name="Bob")),
            "needs an id and a name",
        ),
        (
            lambda host: RemoteMessage(
                chat=CHAT, id=RemoteMessageId("1"), sender=BOB, kind=MessageKind.TEXT,
                body=Rich(), at=NAIVE,
            ),
            "needs a time zone",
        ),
        (lambda host: RemoteJoin(chat=RemoteChatId(""), user=BOB), "`chat` is empty"),
        (lambda host: reacted(target=""), "`target` is empty"),
        (lambda host: reacted(key=" "), "`key` is empty"),
        (lambda host: reacted(id_=""), "without an id the same message"),
        (lambda host: RemoteRanks(chat=CHAT, ranks={BOB.id: 3}), "of the ranks is a Rank"),  # type: ignore[dict-item]
        (
            lambda host: RemoteRemoval(
                chat=CHAT, user=UserId("bob"), by=BOB, how=Removal.BAN
            ),
            "`user` is one of ours",
        ),
    ],
)  # fmt: skip
async def test_what_the_host_can_make_nothing_of_is_refused_with_a_sentence(
    make: Callable[[FakeHost], RemoteEvent], sentence: str
) -> None:
    host = FakeHost()
    with pytest.raises(AssertionError, match=sentence):
        await host.receive(make(host))
    assert sentence in host.faults[0]


def test_bad_news_needs_a_reason() -> None:
    host = FakeHost()
    with pytest.raises(AssertionError, match="needs a reason"):
        host.report(LoginState.SIGN_IN_NEEDED)
    host.report(LoginState.CONNECTED)
    assert host.state is LoginState.CONNECTED


async def test_the_store_forgets_when_the_test_moves_the_clock() -> None:
    clock = FakeClock()
    store = FakeStore(clock)
    await store.put("a:1", b"one", keep_for=timedelta(hours=1), subject="@a:b")
    await store.put("a:2", b"two")
    assert await store.find("a:") == {"a:1": b"one", "a:2": b"two"}
    clock.advance(timedelta(hours=1))
    assert await store.get("a:1") is None
    assert await store.find("a:") == {"a:2": b"two"}
    await store.delete("a:2")
    assert not store.rows
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(timedelta(seconds=-1))


async def test_the_store_refuses_what_a_database_would() -> None:
    store = FakeStore()
    for key, value in (("a\0b", b""), ("\ud800", b""), ("a", "text")):
        with pytest.raises(PermanentFailure):
            await store.put(key, value)  # type: ignore[arg-type]
    assert not store.rows


class Scripted:
    """A client that ends as told."""

    def __init__(self, host: Host, end: str) -> None:
        self._host = host
        self._end = end

    async def run(self) -> None:
        self._host.report(LoginState.CONNECTED)
        match self._end:
            case "not ready":
                raise ModuleNotReady("The server is away.")
            case "refused":
                raise LoginRequired("The password is wrong.")
            case "crash":
                raise KeyError("oops")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._end == "return":
                return
            if self._end == "translate":
                raise ModuleNotReady("stopped") from None
            raise

    async def send(self, message: Message) -> Receipt:
        return Receipt()


async def test_a_client_is_run_and_stopped_as_the_real_host_does() -> None:
    host = FakeHost()
    async with running(Scripted(host, ""), host):
        await host.wait_until_connected()
    for end, state in (
        ("not ready", LoginState.RECONNECTING),
        ("refused", LoginState.SIGN_IN_NEEDED),
    ):
        async with running(Scripted(host, end), host):
            await host.wait_until(lambda host, state=state: host.state is state)  # type: ignore[misc]
    assert host.reports[-1][1] == "The password is wrong."
    with pytest.raises(KeyError):
        async with running(Scripted(host, "crash"), host):
            await host.wait_until_connected()


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ("return", "returned when it was cancelled"),
        ("translate", "raised ModuleNotReady when it was cancelled"),
    ],
)
async def test_a_client_that_eats_its_cancellation_is_caught(end: str, sentence: str) -> None:
    host = FakeHost()
    client = Scripted(host, end)
    with pytest.raises(AssertionError, match=sentence):
        async with running(client, host):
            await host.wait_until_connected()


async def test_an_item_that_runs_twice_shows_each_answer_once() -> None:
    host = FakeBotHost()
    room = FakeRoom(DiceBot(DiceSettings(), host), host)
    first = await room.say("!roll 5d100", event_id="$one")
    assert await room.say("!roll 5d100", event_id="$one") == first == room.texts
    assert await room.say("!ROLL 5d100") != first
    assert len(room.texts) == 2


async def test_notices_are_not_heard_and_help_is_the_hosts() -> None:
    host = FakeBotHost()
    room = FakeRoom(DiceBot(DiceSettings(), host), host)
    assert await room.say("!roll", kind=MessageKind.NOTICE) == []
    assert await room.say("roll") == []
    (help_,) = await room.say("!help")
    assert "!flip — flip a coin" in help_
