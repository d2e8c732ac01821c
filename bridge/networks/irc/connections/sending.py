"""One message on its way to a server, line by line."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from bridge.networks.irc.wire import decode
from bridge.sdk.errors import DeliveryError, DeliveryUncertain, PermanentFailure


class Means(Enum):
    """How a server lets us know what became of a line."""

    PING = auto()
    """Not at all: a PONG says that it was read, and a refusal comes before that."""
    ECHO = auto()
    """It says the line back to us (IRCv3 ``echo-message``), in order for each target."""
    LABELS = auto()
    """It answers each line by its label (IRCv3 ``labeled-response``)."""
    LABELS_AND_ECHO = auto()
    """The same, and what it passes on it says back, so that a mere ACK is no good news."""

    @classmethod
    def of(cls, capabilities: frozenset[str]) -> "Means":
        """Choose the best that a connection's capabilities allow."""
        echoes = "echo-message" in capabilities
        if {"labeled-response", "batch"} <= capabilities:
            return cls.LABELS_AND_ECHO if echoes else cls.LABELS
        return cls.ECHO if echoes else cls.PING

    @property
    def labels(self) -> bool:
        """Whether each line gets a label."""
        return self is Means.LABELS or self is Means.LABELS_AND_ECHO

    @property
    def echoes(self) -> bool:
        """Whether what was passed on comes back to us."""
        return self is Means.ECHO or self is Means.LABELS_AND_ECHO


_SAID = frozenset({"PRIVMSG", "RELAYMSG", "BATCH"})
"""What is written by one of these may come back, or be refused, by the name of another."""


@dataclass(eq=False, slots=True)
class Spoken:
    """A line that was written."""

    command: str
    text: str | None
    """None for a group of lines, which is told by where it stands."""
    label: str = ""
    taken: bool = False
    remote_id: str = ""
    """The network's id of it, where the echo had one."""
    cut: bool = False
    """The server passed on only the beginning."""
    refusal: DeliveryError | None = None

    @property
    def is_settled(self) -> bool:
        """Whether we know what became of it."""
        return self.taken or self.refusal is not None

    def is_meant_by(self, commands: Collection[str]) -> bool:
        """Whether it may be meant by a reply or an echo of one of these commands."""
        return self.command in commands or (
            self.command in _SAID and not _SAID.isdisjoint(commands)
        )

    def hear(self, text: str, remote_id: str) -> None:
        """Take note of the server's echo."""
        self.taken, self.remote_id = True, remote_id
        self.cut = self.text is not None and is_cut(self.text, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What is known of a message that the server took."""

    sent_at: datetime | None
    """When its last line was written."""
    remote_ids: tuple[str, ...] = ()
    """The network's id of each line, empty where it gave none."""
    cut: int = 0
    """How many lines the server shortened."""


@dataclass(eq=False, slots=True)
class Sending:
    """One message on its way."""

    target: str
    """Whom it is for, folded by the server's rule."""
    total: int
    means: Means
    answer: asyncio.Future[DeliveryError | None]
    """What became of it: None when the server took it."""
    lines: list[Spoken] = field(default_factory=list)
    relays: bool = False
    """It is said in another's name."""
    is_whole: bool = False
    """No more of it will be written."""

    @property
    def written(self) -> int:
        """How many lines are out."""
        return len(self.lines)

    @property
    def refusal(self) -> DeliveryError | None:
        """The first reason that the server gave against one of its lines."""
        for one in self.lines:
            if one.refusal is not None:
                return one.refusal
        return None

    def may_be_refused_as(self, commands: Collection[str]) -> bool:
        """Whether such a line is one that a refusal of these commands means."""
        return any(not one.is_settled and one.is_meant_by(commands) for one in self.lines)

    @property
    def may_be_refused(self) -> bool:
        """Whether a line of it is out that we know nothing of."""
        return any(not one.is_settled for one in self.lines)

    @property
    def is_settled(self) -> bool:
        """Whether we know of each line what became of it, and no more come."""
        return self.is_whole and not self.may_be_refused

    def shorten(self) -> None:
        """Take note that what is out is all that there will be."""
        self.total = self.written

    def refuse(self, refusal: DeliveryError) -> None:
        """Take note that the server refused the oldest line that we know nothing of."""
        for one in self.lines:
            if not one.is_settled:
                one.refusal = refusal
                return

    def read_by(self, server: str) -> None:
        """Take note that the server has read all that is out, and of what it did not say."""
        for one in self.lines:
            if one.is_settled:
                continue
            if self.means is Means.PING:
                one.taken = True
            elif self.means.echoes:
                # A shunned user's line is left without any answer, even to its label.
                one.refusal = not_passed_on(server)
            else:
                one.refusal = DeliveryUncertain(f"{server} did not say what became of it.")

    def settle(self, lost: DeliveryError | None = None) -> None:
        """Say what became of it; ``lost`` is for the lines that nothing is known of."""
        if self.answer.done():
            return  # Whoever waited was cancelled.
        open_lines = [one for one in self.lines if not one.is_settled]
        refusal = self.refusal
        if refusal is None:
            # What was taken whole before the connection broke is no matter of doubt.
            is_taken = len(self.lines) == self.total and not open_lines
            self.answer.set_result(None if is_taken else lost)
        elif open_lines and lost is not None:
            self.answer.set_result(lost)
        elif not (taken := sum(one.refusal is None for one in self.lines)):
            self.answer.set_result(refusal)
        else:
            said = f"{refusal} ({taken} of its {self.total} lines were taken)"
            # To say the others later is to say these again.
            is_final = isinstance(refusal, PermanentFailure)
            self.answer.set_result(PermanentFailure(said) if is_final else DeliveryUncertain(said))

    def delivered(self, sent_at: datetime | None) -> Delivered:
        """Say what is known of it, once it is taken."""
        return Delivered(
            sent_at=sent_at,
            remote_ids=tuple(one.remote_id for one in self.lines),
            cut=[one.cut for one in self.lines].count(True),
        )


def not_passed_on(server: str, said: Sequence[str] = ()) -> PermanentFailure:
    """Make the reason for a line that the server read and then kept to itself."""
    words = " ".join(said)
    why = f"it says: {words}" if words else "it gave no reason; a filter, perhaps"
    return PermanentFailure(f"{server} has read it and did not pass it on ({why})")


def is_cut(sent: str, heard: str) -> bool:
    """Whether a server made a line shorter, at its end. Servers cut by bytes."""
    if sent == heard:
        return False
    raw, beginning = sent.encode(), heard.encode()
    # Half a character is read as what it would be in the old charset.
    shorter = range(len(beginning), max(0, len(beginning) - 8), -1)
    return raw.startswith(beginning) or any(decode(raw[:length]) == heard for length in shorter)
