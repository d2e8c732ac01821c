"""Nobody is connected who should not be, and the relay comes into all chats in the end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from bridge.core.host.instances import NOT_ALLOWED, Instance
from bridge.core.host.rejoining import Rejoining
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.demo.matrix_user import PATIENCE
from bridge.model import LoginRow
from bridge.sdk import Host, Login
from bridge.sdk.errors import LoginRequired, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat, RemoteUser
from bridge.sdk.ids import InstanceId, LoginId, RemoteChatId, UserId
from bridge.sdk.login import LoginKind, LoginState
from bridge.sdk.module import Directory
from bridge.sdk.secret import Secret
from tests.core.ground import Ground
from tests.core.instances import Line, Quiet, Rows, network

ALICE, BEA = UserId("@alice:hs"), UserId("@bea:hs")


class Numbered(Rows):
    """Logins of people besides the relay."""

    async def get_or_add_login(
        self, instance: InstanceId, kind: LoginKind, owner: UserId | None
    ) -> LoginRow:
        number = LoginId(1 if owner is None else 2)
        return LoginRow(id=number, instance=instance, kind=kind, owner=owner)


class Vault:
    """Gives what logins sign in with once somebody lets it."""

    def __init__(self) -> None:
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def secrets(self, row: LoginRow) -> Mapping[str, Secret]:
        self.asked.set()
        await self.may.wait()
        return {}


def linked(number: int, owner: UserId) -> LoginRow:
    return LoginRow(
        id=LoginId(number), instance=InstanceId("line"), kind=LoginKind.PERSON, owner=owner
    )


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def at_work(line: Line | None = None) -> AsyncIterator[Instance]:
    instance = network("line", line or Line(), Numbered())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(instance.run())
        await until(lambda: instance.is_open)
        try:
            yield instance
        finally:
            task.cancel()


async def test_who_loses_the_leave_while_a_connection_is_made_gets_none() -> None:
    vault = Vault()

    async def is_refused() -> None:
        with pytest.raises(PermanentFailure, match=NOT_ALLOWED):
            await instance.session_of(ALICE, "Alice")

    async with at_work() as instance:
        async with asyncio.TaskGroup() as group:
            instance.secrets = vault.secrets
            group.create_task(is_refused())
            await vault.asked.wait()
            instance.may_use = lambda person, instance: False
            await instance.review()
            vault.may.set()
        assert instance.find_session(ALICE) is None
        assert len(instance.sessions) == 1


async def test_who_links_an_account_while_a_connection_is_made_is_there_once() -> None:
    vault, row = Vault(), linked(3, ALICE)
    async with at_work() as instance, asyncio.TaskGroup() as group:
        instance.secrets = vault.secrets
        making = group.create_task(instance.session_of(ALICE, "Alice"))
        await vault.asked.wait()

        async def nothing(row: LoginRow) -> Mapping[str, Secret]:
            return {}

        instance.secrets = nothing
        session = await instance.open_login(row)
        vault.may.set()
        assert await making is session
        assert [one.row.owner for one in instance.sessions] == [None, ALICE]


async def test_a_login_that_is_ended_while_others_are_seen_to_stays_ended() -> None:
    async with at_work() as instance:
        instance.may_use = lambda person, instance: person == ALICE
        first, second = linked(3, ALICE), linked(4, BEA)
        await instance.open_login(first)
        assert (await instance.open_login(second)).supervisor.state is LoginState.OFF
        instance.may_use = lambda person, instance: person == BEA
        async with asyncio.TaskGroup() as group:
            group.create_task(instance.review())
            # Its owner ends it while the other one is stopped.
            group.create_task(instance.close_login(second.id))
        assert first.id in [one.row.id for one in instance.sessions]
        assert instance.find_login(second.id) is None


class Chatty:
    """A relay whose network refuses some chats for some time, and whose module fails at others."""

    name = InstanceId("line")

    def __init__(
        self, refused: Mapping[str, int], broken: Mapping[str, list[Exception]] | None = None
    ) -> None:
        self.trouble: dict[str, str] = {}
        self.is_connected = True
        self.asked: list[str] = []
        self.keys: list[str] = []
        """Those that were said, in order."""
        self._refused = dict(refused)
        self._broken = broken or {}

    async def join(self, chat: RemoteChat, limit: float, key: Secret | None) -> None:
        self.asked.append(chat.name)
        if key is not None:
            self.keys.append(key.reveal())
        if self._broken.get(chat.name):
            raise self._broken[chat.name].pop()
        if self._refused.get(chat.name):
            self._refused[chat.name] -= 1
            raise TemporaryFailure("too many channels at once")
        self.trouble.pop(chat.id, None)


def chats_of(*names: str) -> Sequence[RemoteChat]:
    return [RemoteChat(id=RemoteChatId(name), name=name) for name in names]


async def test_a_chat_that_is_refused_for_now_keeps_no_other_out_and_is_tried_again() -> None:
    bridged = [*chats_of(*(f"#{number}" for number in range(60)))]
    relay = Chatty({"#3": 2, "#4": 1_000})
    rejoining = Rejoining(relay, lambda: bridged, 0.01)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rejoining.run())
        rejoining.note_connected()
        await until(lambda: relay.asked.count("#3") == 3)
        assert set(relay.asked) == {chat.name for chat in bridged}
        assert len(relay.asked) == len(bridged) + 2 + relay.asked[60:].count("#4")
        # What somebody ends meanwhile is not joined any more.
        bridged.remove(bridged[4])
        await until(lambda: not relay.trouble)
        tries = len(relay.asked)
        # Of what is not connected there is nothing to try: the next connect begins anew.
        relay.is_connected = False
        rejoining.note_connected()
        await until(lambda: len(relay.asked) == tries + 50)
        relay.is_connected = True
        rejoining.note_connected()
        await until(lambda: len(relay.asked) == tries + 50 + 59)
        task.cancel()


async def test_a_chat_at_which_a_module_fails_ends_no_login_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chats = chats_of("#odd", "#good")
    broken: dict[str, list[Exception]] = {
        "#odd": [*[ValueError("of the network")] * 1_000, LoginRequired("no account")]
    }
    relay = Chatty({}, broken)
    rejoining = Rejoining(relay, lambda: chats, 0.01)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rejoining.run())
        rejoining.note_connected()
        await until(lambda: relay.asked.count("#odd") > 1)
        assert relay.trouble == {"#odd": "it failed with ValueError"}
        broken.clear()
        await until(lambda: not relay.trouble)
        task.cancel()
    assert relay.asked.count("#good") == 1
    assert "LoginRequired: no account" in caplog.text
    assert "ValueError: of the network" in caplog.text


class Broken(Quiet):
    """A client whose module fails when it is to join a chat."""

    async def join(self, chat: RemoteChat) -> None:
        raise KeyError(chat.name)

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        raise KeyError(chat.name)


class Waiting(Quiet):
    """A client that is out of a chat once as many others leave it, too."""

    def __init__(self, host: Host, all_leave: asyncio.Barrier, out: list[str]) -> None:
        super().__init__(host)
        self._all_leave, self._out = all_leave, out

    async def join(self, chat: RemoteChat) -> None:
        """It was there all the time."""

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        await self._all_leave.wait()
        self._out.append(reason)


class WaitingLine(Line):
    """A network whose clients leave a chat together, or not at all."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.all_leave, self.out = asyncio.Barrier(number), list[str]()

    def connect(self, login: Login, host: Host) -> Waiting:
        return Waiting(host, self.all_leave, self.out)


async def test_logins_leave_a_chat_side_by_side_so_that_one_that_hangs_holds_up_no_other() -> None:
    line, (odd,) = WaitingLine(3), chats_of("#odd")
    async with at_work(line) as instance:
        await instance.open_login(linked(3, ALICE))
        await instance.open_login(linked(4, BEA))
        await instance.leave(odd, "this channel is not bridged")
    assert line.out == ["this channel is not bridged"] * 3


class BrokenLine(Line):
    """A network whose module fails at each chat, in one way or another."""

    def connect(self, login: Login, host: Host) -> Broken:
        return Broken(host)

    @property
    def directory(self) -> Directory:
        return Directory(protocol="line", chat_field="chat", user_field="nick", patterns={})

    async def find_chat(self, text: str) -> RemoteChat:
        raise TimeoutError if text == "slow" else KeyError(text)

    async def find_user(self, text: str) -> RemoteUser:
        raise KeyError(text)


async def test_what_a_module_fails_at_is_a_failure_of_that_chat_for_whoever_asks() -> None:
    (odd,) = chats_of("#odd")
    async with at_work(BrokenLine()) as instance:
        with pytest.raises(TemporaryFailure, match="the module failed with KeyError"):
            await instance.join(odd)
        ground = Ground()
        plumbing = Plumbing(ground.house, Portals(ground.house))
        with pytest.raises(TemporaryFailure, match="the module failed with KeyError"):
            await plumbing.read_chat(instance, "#odd")
        with pytest.raises(TemporaryFailure, match="line did not answer in time"):
            await plumbing.read_chat(instance, "slow")
        assert instance.relay is not None
        await instance.relay.leave(odd, "a relay speaks here now")


async def test_a_chat_that_somebody_wishes_for_and_that_is_refused_is_tried_again() -> None:
    (wanted,) = chats_of("#full")
    relay = Chatty({"#full": 2})
    rejoining = Rejoining(relay, lambda: [wanted], 0.01)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rejoining.run())
        rejoining.want(wanted)
        await until(lambda: len(relay.asked) == 3 and not relay.trouble)
        task.cancel()
    assert not relay.keys


async def test_a_key_that_was_said_goes_along_until_the_network_has_answered_it() -> None:
    wanted, other = chats_of("#full", "#other")
    relay = Chatty({"#full": 2}, {"#other": [PermanentFailure("a wrong key")]})
    rejoining = Rejoining(relay, lambda: [wanted, other], 0.01)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rejoining.run())
        rejoining.want(wanted, Secret("sesame"))
        await until(lambda: len(relay.asked) == 3 and not relay.trouble)
        assert relay.keys == ["sesame"] * 3
        rejoining.want(other, Secret("wrong"))
        await until(lambda: "#other" in relay.trouble)
        # Neither is said again.
        rejoining.note_connected()
        await until(lambda: relay.asked[-2:] == ["#full", "#other"] and not relay.trouble)
        task.cancel()
    assert relay.keys == [*["sesame"] * 3, "wrong"]
