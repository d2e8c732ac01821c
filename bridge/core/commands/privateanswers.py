"""Answers for nobody but whoever asked, whatever room they asked in."""

from collections.abc import Awaitable, Callable

from bridge.core.host.bots import BotCall, Stage, say
from bridge.core.logins.signin import sentence
from bridge.sdk.errors import DeliveryError, DeliveryUncertain, TemporaryFailure
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import UserId


class Unsaid(TemporaryFailure):
    """It is done, and what came of it is still to be said: by the same item, tried again."""


def refusal(error: DeliveryError) -> str:
    """Why something was not done, for whoever asked for it."""
    if isinstance(error, TemporaryFailure):
        return f"Not now: {sentence(error)} Try again in a while."
    if isinstance(error, DeliveryUncertain):
        return f"It may have been done: {sentence(error)} Look before you say it again."
    return f"I could not do that: {sentence(error)}"


async def show_privately(stage: Stage, bot: UserId, call: BotCall, text: str) -> str:
    """Say what is for whoever asked alone, where nobody else reads it.

    Return what to answer where it was asked. Raises a ``DeliveryError``.
    """
    room, answer = await stage.private_chats.room_for(
        bot, call.sender.user_id, call.room, direct=call.direct
    )
    await say(stage, bot, room, text, MessageKind.NOTICE, "shown privately", call.item.id)
    return answer


async def answer_privately(
    stage: Stage, bot: UserId, call: BotCall, act: Callable[[], Awaitable[str]]
) -> str:
    """Do it, and say how it went, or why not, where nobody else reads it.

    Return what to answer where it was asked. Raises a ``DeliveryError``: in a direct chat what
    ``act`` raises, else when there is no private one, and then nothing was done. Raises
    :class:`Unsaid` when it was; called again for the same item it says so, and does nothing.
    """
    if call.direct:
        return await act()
    item = call.item.id
    done = stage.unsaid.get(item)
    if done is not None:
        room, answer, text = done
    else:
        room, answer = await stage.private_chats.room_for(
            bot, call.sender.user_id, call.room, direct=False
        )
        try:
            text = await act()
            stage.unsaid.put(item, (room, answer, text))
        except DeliveryError as error:
            text = refusal(error)
            if not isinstance(error, TemporaryFailure):
                # It may have been done, or part of it.
                stage.unsaid.put(item, (room, answer, text))
    try:
        await say(stage, bot, room, text, MessageKind.NOTICE, "private answer", item)
    except TemporaryFailure as error:
        if stage.unsaid.get(item) is None:
            raise
        raise Unsaid(str(error)) from error
    stage.unsaid.drop(item)
    return answer
