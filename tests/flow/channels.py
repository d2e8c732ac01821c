"""Channels, as the people on IRC see them."""

import asyncio

from bridge.demo.matrix_user import PATIENCE, MatrixUser
from tests.rigs.irc_user import IrcUser


async def read_texts(user: IrcUser, count: int, limit: float = PATIENCE) -> list[tuple[str, str]]:
    """The next messages of the channel: (nick, text)."""
    found: list[tuple[str, str]] = []
    try:
        async with asyncio.timeout(limit):
            while len(found) < count:
                line = await user.read()
                prefix, _, rest = line.removeprefix(":").partition(" ")
                if rest.startswith("PRIVMSG #"):
                    found.append((prefix.partition("!")[0], rest.partition(" :")[2]))
    except TimeoutError as error:
        raise AssertionError(f"{len(found)} of {count} came: {found[-8:]}") from error
    return found


async def tell(operator: IrcUser, words: str, answer: str) -> None:
    """Say something to the bot alone, and hear its answer."""
    operator.say(f"PRIVMSG trestle :{words}")
    await operator.expect("NOTICE", answer)


async def wait_for_relay(user: IrcUser, channel: str) -> None:
    """Wait until the bridge listens in the channel."""
    async with asyncio.timeout(PATIENCE):
        while True:
            user.say(f"NAMES {channel}")
            if "trestle" in (await user.expect(" 353 ", channel)).rpartition(":")[2].split():
                return


async def nick_of(person: MatrixUser, room: str, hearer: IrcUser) -> str:
    """Have somebody speak, and give the nick that is seen."""
    await person.say(room, f"here is {person.id}")
    line = await hearer.expect(f":here is {person.id}")
    return line.removeprefix(":").partition("!")[0]
