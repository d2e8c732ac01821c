"""Questions to somebody's program (CTCP): which one it is, what time it has."""

import asyncio
from datetime import datetime

from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.commands.personal import own_client
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.messages.speech import CTCP, read_ctcp
from bridge.networks.irc.names.targets import read_nick
from bridge.networks.irc.wire import cut, line
from bridge.sdk.commands import NetworkCall
from bridge.sdk.errors import PermanentFailure

QUESTIONS = ("CLIENTINFO", "FINGER", "PING", "SOURCE", "TIME", "USERINFO", "VERSION")
"""Those that ask and do nothing else, as modern.ircdocs.horse names them. What people say by CTCP
(``ACTION``), and what has their program connect somewhere (``DCC``), is none."""
WAIT_SECONDS = 10.0
"""How long an answer is waited for: it comes from the other's own machine."""
MOST_ANSWER_BYTES = 400
_MARK = "trestle"
"""What a PING gives to say back."""


async def ctcp(call: NetworkCall) -> str:
    """Ask somebody's program something, and say what it answers.

    Raises ``PermanentFailure`` for anything but a question to one person, and where it is asked
    too soon after the last one.
    """
    target, _, typed = call.text.partition(" ")
    nick, question = read_nick(target), typed.strip().upper()
    if question not in QUESTIONS:
        raise PermanentFailure(f"what can be asked is {', '.join(QUESTIONS)}")
    client = own_client(call)
    client.guard_people(nick)
    async with client.at_hand() as (connection, _, inquiries):
        client.network.refuse_ours(nick, "there is no program of theirs on IRC")
        client.pace_question()
        with inquiries.overhearing.of(nick, question=question) as heard:
            asked_at = await _write(client, connection, nick, question)
            await heard.wait(WAIT_SECONDS, 1)
    if not heard.lines:
        return f"{nick} has not answered within {WAIT_SECONDS:g} seconds: not every program does."
    if question == "PING":
        return f"{nick} answered after {heard.came_at - asked_at:.2f} seconds."
    _, answer = read_ctcp(heard.lines[0]) or ("", "")
    said = cut(strip_codes(answer).strip(), MOST_ANSWER_BYTES)
    return f"{nick} answers: {said}" if said else f"{nick} answers, and says nothing."


async def _write(client: IrcClient, connection: Connection, nick: str, question: str) -> float:
    """Ask; give when that was written, by the loop's clock."""
    loop, written_at = asyncio.get_running_loop(), 0.0

    def now() -> datetime:
        nonlocal written_at
        written_at = loop.time()  # Flood control may have had it wait.
        return client.now()

    words = f"{question} {_MARK}" if question == "PING" else question
    await connection.deliver(nick, [line("PRIVMSG", nick, f"{CTCP}{words}{CTCP}")], now)
    return written_at
