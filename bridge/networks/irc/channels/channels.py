"""The channels that one connection is in, by what its server says."""

import asyncio
from collections.abc import Awaitable, Callable

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.wire import Incoming, cut, line
from bridge.sdk.errors import DeliveryError, TemporaryFailure
from bridge.sdk.secret import Secret

FindKey = Callable[[str, Callable[[str], str]], Secret | None]
_Answer = asyncio.Future[DeliveryError | None]

_NAMES_BYTES = 400
"""Of channels and their keys in one line: the server puts more before them when it tells
others."""


class Channels:
    """Joins and waits for the answer; knows where we are."""

    def __init__(
        self,
        connection: Connection,
        join_seconds: float,
        before: Callable[[str], Awaitable[None]] | None = None,
        find_key: FindKey = lambda name, fold: None,
        account: str = replies.RELAYS_ACCOUNT,
    ) -> None:
        """``before``: asked for each channel that is to be joined; raises why it must not be.

        ``find_key``: gives a channel's key, by its name and by how names are folded.
        ``account``: what can be done where a channel wants an account.
        """
        self._connection = connection
        self._join_seconds = join_seconds
        self._before = before
        self._find_key = find_key
        self._account = account
        self._joined: set[str] = set()
        self._asked: dict[str, _Answer] = {}
        self._unsaid: list[str] = []
        """Of these channels, those whose turn to be written has not come."""
        self._overdue: set[str] = set()
        """Channels whose join was refused or not answered in time, and that nobody has left: a
        refusal may have been about something else."""
        self._writing = asyncio.Lock()

    def _fold(self, name: str) -> str:
        return self._connection.isupport.fold(name)

    def is_in(self, name: str) -> bool:
        """Whether we are in the channel."""
        return self._connection.isupport.fold(name) in self._joined

    def was_asked(self, name: str) -> bool:
        """Whether the channel was asked to let us in, and we were not put out of it since."""
        key = self._fold(name)
        return key in self._joined or key in self._asked or key in self._overdue

    @property
    def names(self) -> list[str]:
        """The channels that we are in, folded, in order."""
        return sorted(self._joined)

    async def enter(self, name: str, check: Callable[[], None] = lambda: None) -> None:
        """Be let into the channel. Raises a ``DeliveryError`` with the server's reason.

        Whether we were put out again before this returns, ``is_in`` tells.

        ``check``: called before it is asked for; raises if it must not be: it was left since, say.
        """
        key = self._fold(name)
        if key in self._joined:
            return
        if self._before is not None:
            await self._before(name)
        check()
        if key in self._joined:
            return  # By another's question, while this one was asked.
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.get_running_loop().create_future()
            self._unsaid.append(name)
        await self._write()
        try:
            async with asyncio.timeout(self._join_seconds):
                # Others may wait for the same answer: our cancellation is not theirs.
                refusal = await asyncio.shield(answer)
        except TimeoutError as error:
            if key in self._joined:
                return
            if self._asked.get(key) is answer:
                del self._asked[key]
                self._overdue.add(key)
            raise TemporaryFailure(
                f"{self._connection.server} did not answer the join of {name} within "
                f"{self._join_seconds:g} seconds.",
                retry_after=5,
            ) from error
        if refusal is not None:
            raise refusal

    async def _write(self) -> None:
        """Ask for all that is wanted by now, as many in a line as the server takes."""
        async with self._writing:
            await asyncio.sleep(0)  # Whoever else wants in at this moment goes along.
            while self._unsaid:
                group, keys = self._take_line()
                lists = (",".join(group), ",".join(keys)) if keys else (",".join(group),)
                try:
                    await self._connection.say(line("JOIN", *lists))
                except BaseException:
                    # Others wait for it.
                    self._unsaid[:0] = [one for one in group if self._fold(one) in self._asked]
                    raise

    def _take_line(self) -> tuple[list[str], list[str]]:
        """Channels for one line, and the keys of the first of them."""
        most, bytes_left = self._connection.isupport.most_joins, _NAMES_BYTES
        keyed: dict[str, str] = {}
        others: list[str] = []
        for name in self._unsaid[:most]:
            secret = self._find_key(name, self._fold)
            key = "" if secret is None else secret.reveal()
            bytes_left -= len(name.encode()) + len(key.encode()) + 2
            if (keyed or others) and bytes_left < 0:
                break
            if key:
                keyed[name] = key
            else:
                others.append(name)
        group = [*keyed, *others]
        del self._unsaid[: len(group)]
        return group, list(keyed.values())

    def part(self, name: str, reason: str) -> None:
        """Leave the channel, if we are in it or on the way."""
        key = self._fold(name)
        self._overdue.discard(key)
        answer = self._asked.pop(key, None)
        if answer is not None:
            self._unsaid = [one for one in self._unsaid if self._fold(one) != key]
            if not answer.done():
                answer.set_result(TemporaryFailure(f"{name} was left meanwhile."))
        if key in self._joined:
            self._joined.discard(key)
            self._connection.write(line("PART", name, cut(reason, 200)))

    def end(self) -> None:
        """Tell those who wait that the connection is gone."""
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(
                    TemporaryFailure(
                        f"The connection to {self._connection.server} broke.", retry_after=5
                    )
                )
        self._asked.clear()
        self._unsaid.clear()
        self._overdue.clear()
        self._joined.clear()

    def handle(self, message: Incoming) -> None:
        """Follow one line."""
        match message.command:
            case "JOIN" if self._connection.is_own(message.source):
                self._on_own_join(message.param(0))
            case "PART" if self._connection.is_own(message.source):
                self._forget(message.param(0))
            case "KICK" if self._connection.is_own(message.named(1)):
                self._forget(message.param(0))
            case _:
                self._on_refused_join(message)

    def _on_own_join(self, name: str) -> None:
        key = self._fold(name)
        answer = self._asked.pop(key, None)
        if answer is None and key not in self._joined and key not in self._overdue:
            # The network sent us elsewhere (470), or it was left meanwhile. Nobody agreed to be
            # bridged there.
            self.leave_unasked(name)
            return
        self._overdue.discard(key)
        self._joined.add(key)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def stay(self, name: str) -> None:
        """Be in a channel that the server had us leave, and has us come to in its next line."""
        self._joined.add(self._fold(name))

    def leave_unasked(self, name: str) -> None:
        """Leave a channel in which we never wanted to be."""
        self._connection.write(line("PART", name, "Not a bridged channel"))

    def _forget(self, name: str) -> None:
        self._joined.discard(self._fold(name))

    def _on_refused_join(self, message: Incoming) -> None:
        name = message.param(2 if replies.is_renamed(message) else 1)
        if message.command in replies.JOIN_UNNAMED and name.upper() == "JOIN":
            # It names the command instead of the channel.
            name = next(iter(self._asked)) if len(self._asked) == 1 else ""
        refusal = replies.join_refusal(message, name, account=self._account)
        key = self._fold(name)
        answer = self._asked.pop(key, None) if refusal is not None else None
        if answer is None:
            return
        self._overdue.add(key)
        if not answer.done():
            answer.set_result(refusal)
