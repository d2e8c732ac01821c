"""The contract of a connector and its clients, as a test."""

import asyncio
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from bridge.sdk.commands import TakesCommands
from bridge.sdk.errors import DeliveryError, PermanentFailure, TrestleError
from bridge.sdk.events import ConsentRequest, Rank, Receipt, RemoteChat, RemoteUser, Removal
from bridge.sdk.examination import ExaminesItself, Remark
from bridge.sdk.ids import RemoteChatId, RemoteUserId, UserId
from bridge.sdk.inviting import InvitesPeople
from bridge.sdk.login import Login, LoginKind, LoginState, LogsOut
from bridge.sdk.module import (
    AsksModerators,
    BansChats,
    Directory,
    FindsChats,
    HasDirectChats,
    JoinsChats,
    ManagesChats,
    NeedsConsent,
)
from bridge.sdk.people import ForgetsPeople
from bridge.sdk.rich import (
    Code,
    Colour,
    Items,
    LineBreak,
    Link,
    Mention,
    Node,
    Quote,
    Rich,
    Style,
    Styled,
    Text,
)
from bridge.sdk.testing.acts import check_acts, check_means, check_typing
from bridge.sdk.testing.declarations import (
    check_capabilities,
    check_commands,
    check_declarations,
    check_flows,
    check_kept,
    check_words,
    make_settings,
)
from bridge.sdk.testing.hosts import STOP_SECONDS, FakeHost, stop
from bridge.sdk.testing.logins import check_logins
from bridge.sdk.testing.outcomes import (
    WAITS,
    attempt,
    demand,
    fail,
    give_up,
    require,
    start,
    why_it_ended,
)
from bridge.sdk.testing.records import make_login, make_message
from bridge.sdk.testing.watching import Watch
from bridge.sdk.wishes import TakesWishes

_SETTLE_SECONDS = 0.25
"""How long a client may try a network that is not there, before we go on."""
_EXAMINE_SECONDS = 30.0
_CANARY = "canary-7c1f52"

_INSIDE: tuple[Node, ...] = (Text("b"), LineBreak(), Text("c"))
BODIES: Mapping[str, Rich] = {
    "an empty text": Rich(),
    "every kind of node": Rich(
        (
            Text("a "),
            *(Styled(style, _INSIDE) for style in Style),
            Colour("#ff0000", None, _INSIDE),
            Link("https://example.org/", (Text("link"),)),
            Mention(UserId("@alice:example.org"), "Alice"),
            Code("x = 1\ny = 2", "python"),
            Quote(_INSIDE),
            Items((_INSIDE, _INSIDE), ordered=True),
        )
    ),
    "control characters": Rich((Text("a\0b\r\nQUIT\r\n\x01\x7f\u2028\ufeff"),)),
    "a long text": Rich.plain("wörter 👩‍👩‍👧 " * 1500),
}
"""What people may write; a client sends it or says why not."""


async def check_connector(
    connector_class: Any,
    settings: BaseModel | Mapping[str, object],
    *,
    chat: str = "#trestle",
    reachable: bool = False,
    limit: float = 10.0,
) -> None:
    """Hold a connector against the contract. Needs no network.

    ``settings`` lead to an address where nothing listens. With ``reachable`` they lead to a
    network that is there, and the clients are also connected, spoken through to ``chat`` (as a
    person would type it), stopped and started again; each step may take ``limit`` seconds.

    Raises ``AssertionError`` with a sentence for the first rule that is broken.
    """
    files = check_declarations(connector_class, "trestle.networks")
    checked, secrets = make_settings(connector_class, settings)
    watch = Watch(files)
    check = _Check(connector_class, checked, watch, chat=chat, limit=limit)
    with watch.watching():
        await check.run(reachable)
    check_words([*secrets, _CANARY], [*check.said, *watch.logged])
    check_kept(connector_class.info, check.store_host.store)


class _Check:
    """One connector under test."""

    def __init__(
        self,
        connector_class: Any,
        settings: BaseModel,
        watch: Watch,
        *,
        chat: str,
        limit: float,
    ) -> None:
        self._class = connector_class
        self._settings = settings
        self._watch = watch
        self._chat = RemoteChat(id=RemoteChatId(chat), name=chat)
        self._limit = limit
        self._end = min(STOP_SECONDS, limit)
        """Seconds for what was cancelled to end, and what it held to be let go."""
        self.store_host = FakeHost()
        self.said: list[str] = []
        """What errors and reports said."""

    async def run(self, reachable: bool) -> None:
        """Check everything."""
        with self._watch.quiet("making the connector", "run() of the client"):
            connector = self._class(self._settings)
        with self._watch.quiet("login_flows()", "run() of the client"):
            check_flows(connector.login_flows())
        with self._watch.quiet("capabilities()", "run() of the client"):
            for name in (self._chat.id, "", "ß" * 300):
                check_capabilities(connector.capabilities(RemoteChatId(name)), name)
        await self._check_extras(connector)
        await self._check_forgetting(connector)
        await self._check_examination(connector)
        signed = await check_logins(connector, self._watch, _CANARY, self.said)
        for login in self._logins(connector, signed):
            await self._check_client(connector, login)
        if reachable:
            await self._check_connected(connector)

    def _logins(self, connector: Any, signed: Sequence[Mapping[str, str]] = ()) -> Sequence[Login]:
        logins = [make_login()]
        if connector.capabilities(self._chat.id).puppets:
            logins.append(make_login(LoginKind.AUTOMATIC, 2))
        for number, secrets in enumerate(signed, 3):
            logins.append(make_login(LoginKind.PERSON, number, **secrets))
        return logins

    # --- the connector ---

    async def _check_extras(self, connector: Any) -> None:
        if isinstance(connector, TakesCommands):
            check_commands(connector.commands)
        if isinstance(connector, NeedsConsent):
            needed = connector.needs_consent(self._chat)
            require(isinstance(needed, bool), f"needs_consent() must give a bool, not {needed!r}")
        if isinstance(connector, TakesWishes):
            words = connector.wishes()
            require(
                all(
                    len(pair) == 2 and all(isinstance(one, str) and one for one in pair)
                    for pair in words
                ),
                f"wishes() must give pairs of what is typed and what comes of it, not {words!r}",
            )
        if isinstance(connector, HasDirectChats):
            person = RemoteUser(id=RemoteUserId("somebody"), name="Somebody")
            try:
                found = connector.direct_chat(person)
            except PermanentFailure as error:
                self.said.append(str(error))
            else:
                require(
                    str(found.id) == person.id,
                    "direct_chat() must give a chat with the person's id",
                )
        if not isinstance(connector, FindsChats):
            return
        _check_directory(connector.directory)
        for text in ("", "a\nb", "a\0b", "x" * 5000, "#a,#b"):
            for name, find in (
                ("find_chat", connector.find_chat),
                ("find_user", connector.find_user),
            ):
                await self._try(f"{name}({text[:20]!r})", find(text))

    async def _check_forgetting(self, connector: Any) -> None:
        if not isinstance(connector, ForgetsPeople):
            return
        stranger, name = UserId("@nobody:example.org"), "forget() of somebody who is not known"
        for _ in range(2):  # Cut off, it is called again.
            _, refused = await self._try(name, connector.forget(stranger))
            require(refused is None, f"{name} must do nothing: {refused}")

    async def _check_examination(self, connector: Any) -> None:
        if not isinstance(connector, ExaminesItself):
            return
        try:
            async with asyncio.timeout(_EXAMINE_SECONDS):
                remarks = await connector.examine()
        except TimeoutError as error:
            fail(f"examine() takes longer than {_EXAMINE_SECONDS:g} seconds", error)
        except TrestleError as error:
            remarks = [Remark("bad", str(error))]
        for one in remarks:
            remark = demand(one, Remark, f"examine() must give a list of Remark, not {one!r}")
            require(
                remark.level in {"ok", "note", "bad"},
                f"examine() gave the level {remark.level!r}; there are ok, note and bad",
            )
            require(
                remark.sentence.strip() and "\n" not in remark.sentence,
                f"examine() gave {remark.sentence!r}; it must be a sentence on one line",
            )
            self.said.append(remark.sentence)

    async def _check_found(self, connector: Any) -> None:
        """Have the chat read by the connector, as people's commands do."""
        if not isinstance(connector, FindsChats):
            return
        text = self._chat.name
        first, error = await self._try(f"find_chat({text!r})", connector.find_chat(text))
        if error is not None:
            fail(f"find_chat({text!r}) does not find the chat: {error}")
        found = demand(
            first, RemoteChat, f"find_chat({text!r}) must give a RemoteChat, not {first!r}"
        )
        require(found.id and found.name, f"find_chat({text!r}): the chat needs an id and a name")
        again, _ = await self._try("find_chat()", connector.find_chat(found.name))
        require(
            isinstance(again, RemoteChat) and again.id == found.id,
            f"find_chat({found.name!r}) gives another id than find_chat({text!r}): {again!r}; "
            "one chat has one id, or two rooms are bridged to it",
        )
        self._chat = found

    # --- a client without its network ---

    def _connect(self, connector: Any, login: Login) -> tuple[Any, FakeHost]:
        host = FakeHost(store=self.store_host.store, info=self._class.info)
        with self._watch.quiet("connect()", "run() of the client"):
            client = connector.connect(login, host)
        for name in ("run", "send"):
            require(
                inspect.iscoroutinefunction(getattr(client, name, None)),
                f"connect() must give a client with `async def {name}`; {client!r} has none",
            )
        return client, host

    async def _check_client(self, connector: Any, login: Login) -> None:
        client, host = self._connect(connector, login)
        check_means(client, connector.capabilities(self._chat.id))
        require(
            self._connect(connector, login)[0] is not client,
            "connect() must make a new client at each call",
        )
        await self._check_unconnected(client, "before run() has connected")
        client, host = self._connect(connector, login)
        for pause in (0, _SETTLE_SECONDS, _SETTLE_SECONDS):
            await self._run_for(client, host, pause)
            await self._watch.wait_until_clean(self._end)
        if login.secrets and isinstance(client, LogsOut):
            await self._try("log_out()", client.log_out(), self._limit)
        self._take_words(host)

    async def _run_for(self, client: Any, host: FakeHost, seconds: float) -> None:
        """Have it run, stop it, and see how it ends."""
        task = start(client.run())
        if not seconds:
            await asyncio.sleep(0)
        else:
            await asyncio.wait({task}, timeout=seconds)
        await self._stop(task, host)

    async def _stop(self, task: asyncio.Task[Any], host: FakeHost) -> None:
        if task.done():
            self._check_early_end(task, host)
        else:
            await stop(task, self._end)

    def _check_early_end(self, task: asyncio.Task[Any], host: FakeHost) -> None:
        require(not host.faults, "; ".join(host.faults))
        self.said.append(str(why_it_ended(task)))

    async def _check_unconnected(self, client: Any, when: str) -> None:
        message = make_message(BODIES["every kind of node"], chat=self._chat.id)
        sent, error = await self._try(f"send() {when}", client.send(message))
        require(
            error is not None or sent is WAITS,
            f"send() gave {sent!r} {when}; wait for the connection or raise TemporaryFailure, or "
            "the message counts as delivered",
        )
        await check_typing(client, self._chat, when)
        if isinstance(client, JoinsChats):
            joined, error = await self._try(f"join() {when}", client.join(self._chat))
            require(
                error is not None or joined is WAITS,
                f"join() returned {when}; wait for the connection or raise TemporaryFailure",
            )
            await self._try(f"leave() {when}", client.leave(self._chat, "test"))
        if isinstance(client, ManagesChats):
            for name, act in (
                ("set_topic", client.set_topic(self._chat, "a topic")),
                ("set_rank", client.set_rank(self._chat, RemoteUserId("bob"), Rank.VOICED)),
                ("remove", client.remove(self._chat, RemoteUserId("bob"), Removal.KICK, "test")),
            ):
                done, error = await self._try(f"{name}() {when}", act)
                require(
                    error is not None or done is WAITS,
                    f"{name}() returned {when}; wait for the connection or raise TemporaryFailure",
                )
        if isinstance(client, InvitesPeople):
            invited, error = await self._try(
                f"invite() {when}", client.invite(self._chat, RemoteUserId("bob"))
            )
            require(
                error is not None or invited is WAITS,
                f"invite() returned {when}; wait for the connection or raise TemporaryFailure",
            )
        if isinstance(client, BansChats):
            bannings: dict[str, Awaitable[object]] = {
                "find_bans": client.find_bans(self._chat, ["bob"]),
                "change_bans": client.change_bans(self._chat, ["bob*"], ["carl"]),
            }
            for name, banning in bannings.items():
                done, error = await self._try(f"{name}() {when}", banning)
                require(
                    error is not None or done is WAITS,
                    f"{name}() returned {when}; wait for the connection or raise TemporaryFailure",
                )
        if isinstance(client, AsksModerators):
            request = ConsentRequest(
                chat=self._chat, room="#test:example.org", asked_by=UserId("@alice:example.org"),
                minutes=5,
            )  # fmt: skip
            asked, error = await self._try(f"ask() {when}", client.ask(request))
            require(
                error is not None or asked is WAITS,
                f"ask() gave {asked!r} {when}; wait for the connection or raise TemporaryFailure",
            )

    async def _try(
        self, what: str, call: Awaitable[object], limit: float = 0
    ) -> tuple[object, DeliveryError | None]:
        """What it gives, or its error. Without a limit it may wait, for the connection."""
        found, error = await attempt(
            what, call, limit or _SETTLE_SECONDS, may_wait=not limit, end=self._end
        )
        if error is not None:
            self.said.append(str(error))
        return found, error

    def _take_words(self, host: FakeHost) -> None:
        require(not host.faults, "; ".join(host.faults))
        self.said += [reason for _, reason in host.reports]

    # --- a client on its network ---

    async def _check_connected(self, connector: Any) -> None:
        client, host = self._connect(connector, self._logins(connector)[0])
        for number in (1, 2):
            host.reports.clear()
            task = start(client.run())
            try:
                await self._use(connector, client, task, host)
                if number == 1:
                    for name, body in BODIES.items():
                        await self._send(client, name, body)
                await self._stop(task, host)
            except AssertionError:
                await give_up(task)
                raise
            await self._watch.wait_until_clean(self._end)
            await self._check_unconnected(client, "after run() was stopped")
        self._take_words(host)

    async def _use(
        self, connector: Any, client: Any, task: asyncio.Task[Any], host: FakeHost
    ) -> None:
        await self._wait_until_connected(task, host)
        await self._check_found(connector)
        await self._speak(client, "hello")

    async def _wait_until_connected(self, task: asyncio.Task[Any], host: FakeHost) -> None:
        connected = start(
            host.wait_until(lambda host: host.state is LoginState.CONNECTED, self._limit)
        )
        await asyncio.wait({task, connected}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await give_up(connected)
            self._check_early_end(task, host)
            fail(f"run() does not reach the network: {task.exception()}")
        if connected.exception() is not None:
            fail(
                f"run() did not host.report(LoginState.CONNECTED) within {self._limit:g} seconds; "
                "until then nobody can join or send"
            )

    async def _speak(self, client: Any, text: str) -> None:
        """Have a plain message sent, which must work."""
        if isinstance(client, JoinsChats):
            _, error = await self._try("join()", client.join(self._chat), self._limit)
            require(error is None, f"join() does not work when connected: {error}")
        receipt, error = await self._send(client, "a plain text", Rich.plain(text))
        require(error is None, f"send() does not work when connected: {error}")
        taken = demand(receipt, Receipt, f"send() must give a Receipt, not {receipt!r}")
        self.said += await check_acts(client, self._chat, taken.remote_ids, self._limit)

    async def _send(
        self, client: Any, name: str, body: Rich
    ) -> tuple[object, DeliveryError | None]:
        message = make_message(body, chat=self._chat.id, relayed=True)
        return await self._try(f"send() of {name}", client.send(message), self._limit)


def _check_directory(directory: object) -> None:
    found = demand(directory, Directory, f"`directory` must be a Directory, not {directory!r}")
    for name in (found.chat_field, found.user_field):
        require(
            name in found.patterns,
            f"directory.patterns says nothing of the field {name!r}",
        )
    require(found.protocol.strip(), "directory.protocol is empty; name the network's kind")
