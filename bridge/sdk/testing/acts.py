"""The contract of what a client may do besides sending: changes, reactions, deletions, typing."""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

from bridge.sdk.capabilities import Capabilities, Level
from bridge.sdk.events import (
    Edit,
    MessageKind,
    Reaction,
    Receipt,
    Redaction,
    RemoteChat,
    Sender,
    Typing,
)
from bridge.sdk.ids import EventId, RemoteMessageId, UserId
from bridge.sdk.module import SendsEdits, SendsReactions, SendsRedactions, SendsTyping
from bridge.sdk.rich import Rich
from bridge.sdk.testing.outcomes import WAITS, attempt, require

_MEANS = {
    "edits": "send_edit",
    "reactions": "send_reaction",
    "redactions": "send_redaction",
    "typing": "send_typing",
}
_ALICE = Sender(user_id=UserId("@alice:example.org"), name="Alice")
_AT_ONCE = 2.0
"""Seconds that showing somebody at writing may take where there is no connection."""


def check_means(client: Any, capabilities: Capabilities) -> None:
    """See that the client has what the capabilities say that it does itself.

    Raises ``AssertionError``.
    """
    for field, method in _MEANS.items():
        found = getattr(client, method, None)
        if getattr(capabilities, field) > Level.FALLBACK:
            require(
                found is not None,
                f"Capabilities.{field} says that the module does it, but the client has no "
                f"{method}(); without it, let the core say it: Level.FALLBACK",
            )
        if found is not None:
            require(
                inspect.iscoroutinefunction(found),
                f"{method} must be `async def`, not {found!r}",
            )


async def check_typing(client: Any, chat: RemoteChat, when: str) -> None:
    """See that nobody waits for a connection to show that somebody writes."""
    if not isinstance(client, SendsTyping):
        return
    typing = Typing(chat=chat.id, sender=_ALICE, is_typing=True)
    outcome, _ = await attempt(
        f"send_typing() {when}", client.send_typing(typing), _AT_ONCE, may_wait=True
    )
    require(
        outcome is not WAITS,
        f"send_typing() waits {when}; show it at once or not at all",
    )


async def check_acts(
    client: Any, chat: RemoteChat, said: Sequence[RemoteMessageId], limit: float
) -> list[str]:
    """Do to a message, just sent as ``said``, what the client can; give what its errors say.

    Raises ``AssertionError`` for anything but a ``Receipt``, None or a ``DeliveryError``.
    """
    words: list[str] = []
    for targets in (tuple(said), (RemoteMessageId("a message that nobody knows"),)):
        for relayed in (False, True):
            words += await _check_acts(client, chat, targets, relayed, limit)
    for is_typing in (True, False):
        if isinstance(client, SendsTyping):
            typing = Typing(chat=chat.id, sender=_ALICE, is_typing=is_typing)
            await attempt("send_typing()", client.send_typing(typing), limit, may_wait=False)
    return words


async def _check_acts(
    client: Any,
    chat: RemoteChat,
    targets: tuple[RemoteMessageId, ...],
    relayed: bool,
    limit: float,
) -> list[str]:
    event_id, words = EventId("$act"), []
    calls = []
    if isinstance(client, SendsEdits):
        edit = Edit(
            chat=chat.id, event_id=event_id, sender=_ALICE, targets=targets,
            kind=MessageKind.TEXT, body=Rich.plain("changed"), relayed=relayed,
        )  # fmt: skip
        calls.append(("send_edit()", partial(client.send_edit, edit)))
    if isinstance(client, SendsReactions):
        for key in ("👍", "a;b c\\:"):
            reaction = Reaction(
                chat=chat.id, event_id=event_id, sender=_ALICE, key=key, relayed=relayed,
                target=targets[0] if targets else RemoteMessageId(""),
            )  # fmt: skip
            calls.append(("send_reaction()", partial(client.send_reaction, reaction)))
    if isinstance(client, SendsRedactions):
        redaction = Redaction(
            chat=chat.id, event_id=event_id, sender=_ALICE, targets=targets, relayed=relayed,
            reason="two\nlines",
        )  # fmt: skip
        calls.append(("send_redaction()", partial(client.send_redaction, redaction)))
    for name, call in calls:
        receipt, error = await attempt(name, call(), limit, may_wait=False)
        require(
            error is not None or receipt is None or isinstance(receipt, Receipt),
            f"{name} must give a Receipt, or None for what is left out, not {receipt!r}",
        )
        words += [str(error)] if error is not None else []
    return words
