"""Which reaction is which: by its own id, and by what it is, as IRCv3's ``unreact`` names it."""

from collections import OrderedDict

from bridge.networks.irc.acts import made_up_reaction_id
from bridge.sdk.ids import RemoteChatId, RemoteMessageId, RemoteUserId

MOST = 10_000
"""Reactions that are remembered each way. Older ones can be taken back by their ids alone."""


class Reactions:
    """What was reacted since we run, on one network."""

    def __init__(self) -> None:
        self._ours: OrderedDict[RemoteMessageId, tuple[str, str]] = OrderedDict()
        self._theirs: OrderedDict[tuple[RemoteChatId, str, str, str], str] = OrderedDict()

    def sent(self, ids: tuple[RemoteMessageId, ...], target: str, key: str) -> None:
        """Take note of a reaction of one of us: its ids, to which message it is, and what."""
        for one in ids:
            self._ours[one] = (target, key)
        if len(self._ours) > MOST:
            self._ours.popitem(last=False)

    def find_ours(self, ids: tuple[RemoteMessageId, ...]) -> tuple[str, str] | None:
        """To which message a reaction of one of us is, and what; None if that is not known."""
        return next((self._ours[one] for one in ids if one in self._ours), None)

    def heard(
        self, chat: RemoteChatId, sender: RemoteUserId, target: str, key: str, msgid: str
    ) -> RemoteMessageId:
        """Take note of somebody's reaction; give its id."""
        found = msgid or made_up_reaction_id(target, sender, key)
        self._theirs[chat, sender, target, key] = found
        if len(self._theirs) > MOST:
            self._theirs.popitem(last=False)
        return RemoteMessageId(found)

    def taken_back(
        self, chat: RemoteChatId, sender: RemoteUserId, target: str, key: str
    ) -> RemoteMessageId:
        """The id of somebody's reaction that is taken back."""
        found = self._theirs.pop((chat, sender, target, key), "")
        return RemoteMessageId(found or made_up_reaction_id(target, sender, key))
