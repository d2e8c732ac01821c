"""What a module makes of a name: whatever it does, whoever asked goes on."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.core.host.finding import find_chat, find_user
from bridge.core.host.instances import Instance
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat, RemoteUser
from bridge.sdk.ids import RemoteChatId, RemoteUserId
from bridge.sdk.module import Directory
from tests.core.instances import Line, network


class Reading(Line):
    """A network that knows "dora" and "#club", fails at "broken", and else never answers."""

    directory = Directory(protocol="line", chat_field="chat", user_field="nick", patterns={})

    async def find_chat(self, text: str) -> RemoteChat:
        return RemoteChat(id=RemoteChatId(await self._read(text, "#club")), name=text)

    async def find_user(self, text: str) -> RemoteUser:
        return RemoteUser(id=RemoteUserId(await self._read(text, "dora")), name=text)

    async def _read(self, text: str, known: str) -> str:
        if text == "broken":
            raise KeyError(text)
        if text.casefold() != known:
            await asyncio.Event().wait()
        return known


@pytest.mark.parametrize(("find", "known"), [(find_chat, "#club"), (find_user, "dora")])
async def test_a_module_that_fails_or_never_answers_holds_nobody_up(
    find: Callable[..., Awaitable[RemoteChat | RemoteUser]], known: str
) -> None:
    near: Instance = network("near", Reading())
    assert (await find(near, known.upper())).id == known
    with pytest.raises(TemporaryFailure, match="the module failed with KeyError"):
        await find(near, "broken")
    with pytest.raises(TemporaryFailure, match="near did not answer in time"):
        await find(near, "nobody", limit=0.01)
    with pytest.raises(PermanentFailure, match="by name"):
        await find(network("far", Line()), known)
