"""What people say to one connection alone, and who they are, for direct chats."""

from collections.abc import Callable
from datetime import datetime

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.format import clean_text, strip_codes
from bridge.networks.irc.messages.speech import read_text
from bridge.networks.irc.messages.splits import is_split
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.people import account_id, account_of
from bridge.networks.irc.private.lookout import Lookout
from bridge.networks.irc.private.partners import Partner, Partners
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.acts import is_typing, read_act, read_answered, read_typing
from bridge.networks.irc.protocol.batches import is_told_late
from bridge.networks.irc.protocol.times import read_past
from bridge.networks.irc.wire import Incoming, Source, cut
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import (
    MessageKind,
    RemoteMessage,
    RemoteReaction,
    RemoteRedaction,
    RemoteRemark,
    RemoteRename,
    RemoteTyping,
    RemoteUser,
)
from bridge.sdk.ids import RemoteChatId, RemoteMessageId, RemoteUserId
from bridge.sdk.rich import Rich

Whispered = (
    RemoteMessage | RemoteReaction | RemoteRedaction | RemoteTyping | RemoteRename | RemoteRemark
)


MOST_AWAY_BYTES = 300


class Whispers:
    """What one connection hears of those whom its login talks with. Pure but for the clock."""

    def __init__(
        self, connection: Connection, network: Network, now: Callable[[], datetime],
        partners: Partners,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._network = network
        self._now = now
        self._partners = partners
        self.lookout = Lookout(connection.isupport, network, partners)

    def _chat(self, nick: str) -> RemoteChatId:
        return RemoteChatId(self._connection.isupport.fold(nick))

    def said_to(self, nick: str) -> None:
        """Take note that we say something to a person, who is followed from now on.

        Raises ``PermanentFailure`` where another would hear it."""
        partner = self._partners.find(self._chat(nick))
        if partner is not None and not partner.is_utf8:
            raise PermanentFailure(
                f"{nick} writes that name in another charset than UTF-8: what is said to it would "
                "reach nobody, or somebody else who is called alike"
            )
        self._partners.speak(self._chat(nick), nick)

    def hear(self, message: Incoming) -> list[Whispered]:
        """Read what somebody who is none of us said to us alone, or did: text, and no CTCP."""
        source = message.source
        if source is None:
            return []
        account = account_of(message, self._connection.capabilities)
        chat, user = self._chat(source.nick), self._user(source.nick, account)
        if self.leaves_out(source):
            return []
        if is_typing(message):
            is_shown = self._network.settings.typing and not message.is_replayed
            return [read_typing(message, chat, user)] if is_shown else []
        act = read_act(message, chat, user, self._network.id_of)
        said = act or self._message(message, chat, user)
        return [] if said is None else [*self._compare(source, message), said]

    def leaves_out(self, source: Source) -> bool:
        """Whether nothing of somebody is taken: a service whom nobody here has asked anything.

        What services say goes where it was asked for, and opens no room: they say it to
        whoever connects.
        """
        if not self._network.is_service(source):
            return False
        partner = self._partners.find(self._chat(source.nick))
        return partner is None or partner.spoke_at is None

    def _message(
        self, message: Incoming, chat: RemoteChatId, user: RemoteUser
    ) -> RemoteMessage | None:
        if message.command == "INVITE":
            content: tuple[MessageKind, Rich] | None = self._invitation(message.param(1))
        else:
            content = read_text(message) if message.command in replies.SPEAKING else None
        if content is None or not content[1].nodes:
            return None
        kind, body = content
        answered = read_answered(message)
        return RemoteMessage(
            chat=chat, id=self._network.id_of(message), sender=user, kind=kind, body=body,
            at=read_past(message, self._now()) or self._now(), direct=True,
            reply_to=RemoteMessageId(answered) if answered else None, late=is_told_late(message),
        )  # fmt: skip

    def _invitation(self, channel: str) -> tuple[MessageKind, Rich] | None:
        if not self._connection.isupport.is_channel(channel):
            return None
        name = clean_text(channel)
        text = f"invites you into {name} (the command for it: {as_typed(f'join {name}')})"
        return MessageKind.EMOTE, Rich.plain(text)

    def _compare(self, source: Source, message: Incoming) -> list[Whispered]:
        """Say so if it is not the same connection or account as before under that nick."""
        chat, nick = self._chat(source.nick), strip_codes(source.nick)
        partner = self._partners.speak(chat, source.nick)
        if not message.is_replayed:
            partner.be_there()
        partner.away, partner.is_utf8 = "", source.is_utf8
        before, account = partner.mask, message.tags.get("account", "")
        mask = _mask(source)
        is_same = mask == before or not before or (account and account == partner.account)
        partner.mask, partner.account = mask, account
        if is_same:
            return []
        return [self._network.remark(
            chat, f"{nick} is {clean_text(mask)} now, and was {clean_text(before)} before: it may "
            "be somebody else.",
        )]  # fmt: skip

    def follow(self, message: Incoming) -> list[Whispered]:
        """Learn from a line that somebody goes by another nick, has left or come back.

        A server tells of those who are in a channel with us, and where it can (``MONITOR``) of
        those whom it watches for us.
        """
        if message.command in replies.MONITOR:
            return [*self.lookout.hear(message)]
        if message.command == replies.AWAY:
            return self._on_away(message.named(1), message.param(-1))
        source = message.source
        partner = self._partners.find(self._chat(source.nick)) if source is not None else None
        if source is None or partner is None or partner.is_utf8 != source.is_utf8:
            return []
        match message.command:
            case "NICK" if message.param(0):
                return self._on_nick(message, source, partner)
            case "QUIT" if not is_split(message.param(0)):
                return self._on_quit(source, partner, strip_codes(message.param(0)))
            case "CHGHOST" if partner.mask == _mask(source):
                partner.mask = f"{message.param(0)}@{message.param(1)}"
            case "ACCOUNT" if partner.mask == _mask(source):
                partner.account = message.param(0).removeprefix("*")
            case "AWAY":
                return self._on_away(source, message.param(0))
        return []

    def _on_away(self, who: Source, reason: str) -> list[Whispered]:
        """Say that somebody is away, or back: while somebody waits for them, and each thing once.

        That they are away the server says to whoever writes to them; that they are back, to those
        who are in a channel with them (``away-notify``).
        """
        chat = self._chat(who.nick)
        partner, reason = self._partners.find(chat), cut(strip_codes(reason), MOST_AWAY_BYTES)
        now = self._partners.now()
        if partner is None or partner.is_utf8 != who.is_utf8 or partner.away == reason:
            return []
        if reason and not partner.is_away_news(now):
            return []
        partner.away, partner.told_away_at = reason, now
        name = strip_codes(who.nick)
        said = f"{name} is away: {reason}" if reason else f"{name} is back."
        return [self._network.remark(chat, said)]

    def _on_nick(self, message: Incoming, source: Source, partner: Partner) -> list[Whispered]:
        """Go on with the same person. Somebody who has a partner's nick, and is not known to be
        that person, is not followed: what is said to one would go to another."""
        old, new = source.nick, message.param(0)
        chat, account = self._chat(old), message.tags.get("account")
        is_known = partner.mask == _mask(source) or (account and account == partner.account)
        if is_known or chat == self._chat(new):
            self._partners.rename(chat, self._chat(new), new)
            partner.is_utf8 = message.named(0).is_utf8
            return [RemoteRename(chat=chat, old=self._user(old), new=self._user(new))]
        if not partner.is_talked_to(self._partners.now()):
            return []
        name, other = strip_codes(old), strip_codes(new)
        return [self._network.remark(
            chat, f"{name} goes by {other} now. Nothing shows that it is who you talk with here, "
            f"so this stays the chat with {name}; {as_typed(f'query {other}')} begins one with "
            f"{other}.",
        )]  # fmt: skip

    def _on_quit(self, source: Source, partner: Partner, reason: str) -> list[Whispered]:
        now = self._partners.now()
        partner.mask = partner.mask or (_mask(source) if source.is_person else "")
        if not partner.is_waited_for(now):
            return []
        partner.be_told(now, is_gone=True)
        why = f" ({reason})" if reason else ""
        return [self._network.remark(
            self._chat(source.nick), f"{strip_codes(source.nick)} has left the network{why}. "
            "Whoever comes back under this name may be somebody else.",
        )]  # fmt: skip

    def _user(self, nick: str, account: str | None = None) -> RemoteUser:
        fold = self._connection.isupport.fold
        return RemoteUser(
            id=RemoteUserId(fold(nick)),
            name=strip_codes(nick),
            account=account_id(fold(account)) if account else None,
        )


def _mask(source: Source) -> str:
    return f"{source.user}@{source.host}"
