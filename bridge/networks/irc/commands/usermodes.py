"""The modes of a person's own connection: what it shows of itself, and what it takes."""

import re

from bridge.networks.irc.client import ownmodes
from bridge.networks.irc.client.ownmodes import Signs
from bridge.networks.irc.commands.personal import own_client
from bridge.networks.irc.network.keepsakes import MODES
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.wire import cut, line
from bridge.sdk.commands import NetworkCall, as_typed
from bridge.sdk.errors import PermanentFailure

_TYPED = re.compile(r"(?:[+-][A-Za-z]+){1,20}")
_MOST_SHOWN = 100


async def umode(call: NetworkCall) -> str:
    """See one's own modes; or set and take some, now and on each connect.

    What the server does not take is not kept, and its reason is told. Raises it as
    ``PermanentFailure`` where it takes nothing.
    """
    client = own_client(call)
    if call.text == "off":
        await client.keepsakes.keep(MODES, "")
        return "None are set when you connect any more. Those that you have stay until then."
    wanted = _read_typed(call.text) if call.text else {}
    if not client.settings.allow_uncloak:
        ownmodes.refuse_uncloaking(call.text)
    async with client.at_hand() as (connection, _, inquiries):
        nick = connection.own.nick
        look = line("MODE", nick)
        asked = [look, line("MODE", nick, ownmodes.write(wanted))] if wanted else []
        answer = await inquiries.change(
            *asked, look, wanted={replies.OWN_MODES, *replies.OWN_MODES_REFUSED}
        )
    shown = [one.param(1) for one in answer.lines if one.command == replies.OWN_MODES]
    refused = [
        str(replies.command_refusal(one))
        for one in answer.lines if one.command != replies.OWN_MODES
    ]  # fmt: skip
    if not shown:
        raise PermanentFailure("\n".join(refused) or "the server does not say which you have")
    taken = {
        one: sign for one, sign in wanted.items()
        if (one in shown[-1]) == (sign == "+")
        # What was not there before, the server may have refused to take.
        and (sign == "+" or one in shown[0] or not refused)
    }  # fmt: skip
    if left := {one: sign for one, sign in wanted.items() if one not in taken}:
        refused.insert(0, f"{ownmodes.write(left)} was not taken.")
    if wanted and not taken:
        raise PermanentFailure("\n".join(refused))
    kept = client.keepsakes.read(MODES)
    if taken:
        kept = ownmodes.write(ownmodes.read(kept) | taken)
        await client.keepsakes.keep(MODES, kept)
    return "\n".join([*refused, _say(shown[-1], kept)])


def _say(has: str, kept: str) -> str:
    letters = cut(has.strip("+"), _MOST_SHOWN)
    said = f"Your modes are +{letters}." if letters else "You have no modes."
    return f"{said} On each connect {kept} is set." if kept else said


def _read_typed(text: str) -> Signs:
    if not _TYPED.fullmatch(text):
        raise PermanentFailure(
            f"say which modes are set or taken, {as_typed('umode +i-w')} say; they take no values"
        )
    return ownmodes.read(text)
