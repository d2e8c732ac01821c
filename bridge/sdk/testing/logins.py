"""The contract of signing in: each flow of a connector, gone through with made-up answers."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from bridge.sdk.errors import DeliveryError, ModuleError
from bridge.sdk.ids import UserId
from bridge.sdk.login import Ask, Finished, SignsIn
from bridge.sdk.secret import Secret
from bridge.sdk.testing.declarations import check_finished, check_step
from bridge.sdk.testing.outcomes import END_SECONDS, WAITS, fail, require, start
from bridge.sdk.testing.watching import Watch

_OWNER = UserId("@alice:example.org")
_MOST_STEPS = 20
_CALL_SECONDS = 2.0
"""How long a call may wait for a network that is not there before it is cancelled."""


async def check_logins(
    connector: Any, watch: Watch, canary: str, said: list[str]
) -> list[dict[str, str]]:
    """Go through every flow; give what a client of each may sign in with.

    What errors say is added to ``said``. Raises ``AssertionError`` for the first broken rule.
    """
    flows = connector.login_flows()
    require(
        not flows or isinstance(connector, SignsIn),
        "login_flows() names flows, but there is no begin_login() to go through them",
    )
    found = []
    for flow in flows:
        with watch.quiet("begin_login()", "start() of the process"):
            process = connector.begin_login(flow.id, _OWNER)
            again = connector.begin_login(flow.id, _OWNER)
        require(again is not process, "begin_login() must make a new process at each call")
        found.append(await _go_through(process, f"the flow {flow.id!r}", canary, said))
    return found


async def _go_through(process: Any, where: str, canary: str, said: list[str]) -> dict[str, str]:
    """Answer each step once. Ends early where the network is needed and is not there."""
    asked: dict[str, str] = {}
    got = await _call(f"{where}: start()", process.start(), said)
    for _ in range(_MOST_STEPS):
        if got is None or got is WAITS:
            return asked
        if isinstance(got, Finished):
            check_finished(got, where)
            return {name: value.reveal() for name, value in got.secrets.items()}
        step = check_step(got, where)
        said.append(step.text)
        answers: Mapping[str, Secret] = {}
        if isinstance(step, Ask):
            answers = {field.name: Secret(canary) for field in step.fields}
            asked |= dict.fromkeys(answers, canary)
        got = await _call(f"{where}: submit()", process.submit(answers), said)
    return fail(f"{where} does not come to an end after {_MOST_STEPS} steps")


async def _call(what: str, call: Awaitable[object], said: list[str]) -> object:
    """What it gives; ``WAITS`` if it was cancelled while it waited; None after a known error."""

    async def awaited() -> object:
        return await call

    task = start(awaited())
    await asyncio.wait({task}, timeout=_CALL_SECONDS)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=END_SECONDS)
        require(task.done(), f"{what} goes on though it was cancelled")
    if task.cancelled():
        return WAITS
    error = task.exception()
    if error is None:
        require(task.result() is not None, f"{what} gave None; give a step or Finished")
        return task.result()
    if not isinstance(error, ModuleError | DeliveryError):
        fail(
            f"{what} raised {type(error).__name__}: {error}; raise LoginRequired (refused), "
            "ModuleNotReady (not there) or PermanentFailure, with `from`: the person reads it",
            error,
        )
    require(str(error).strip(), f"{what} raised {type(error).__name__} without a sentence")
    said.append(str(error))
    return None
