"""Keeps clients of modules running: start, watch, start again with backoff, stop in time."""

import asyncio
import logging
import os
import random
from collections.abc import Callable
from time import monotonic

from bridge.core.host.outlook import join, spell
from bridge.core.lanes.cancellation import is_meant_for_us
from bridge.sdk.errors import LoginRequired, ModuleError, ModuleNotReady
from bridge.sdk.login import LoginState
from bridge.sdk.module import Client
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

_AWAY = frozenset({LoginState.RECONNECTING, LoginState.SIGN_IN_NEEDED})
_STABLE = 60.0
"""Seconds after which a connection counts as good and the backoff starts anew."""


REST = 60.0
"""Seconds before a login that was refused may be tried again, if somebody wants to speak."""
_LONGEST_DELAY = 300.0
_LONGEST_REST = 3600.0
"""The same at most: it doubles with each refusal that follows."""


class Supervisor:
    """Runs one client until stopped. A failure never switches it off for good."""

    def __init__(
        self,
        client: Client,
        name: str,
        on_state: Callable[[LoginState, str], None],
        *,
        personal: bool = False,
        first_delay: float = 1.0,
        stop_limit: float = 5.0,
        rest: float = REST,
        elapsed: Callable[[], float] = monotonic,
    ) -> None:
        self.client = client
        self.name = name
        self._on_state = on_state
        self._personal = personal
        self._first_delay = first_delay
        self._stop_limit = stop_limit
        self._first_rest = self._rest = rest
        self._elapsed = elapsed
        self._task: asyncio.Task[None] | None = None
        self._again = asyncio.Event()
        self.state = LoginState.STARTING
        self.reason = ""
        self._ended_by = ""
        """Why it was away when it was last, until it is connected, rests or is stopped."""
        self._ended_at = 0.0
        self._away_since = elapsed()
        self._next_try: float | None = None
        self._is_stopped = False
        self.connected = asyncio.Event()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin, as a task of the group."""
        self._task = group.create_task(self._run(), name=self.name)

    def wake(self) -> None:
        """Try again now instead of waiting out the backoff; not what was refused just now."""
        if self.state is not LoginState.SIGN_IN_NEEDED or self.has_rested:
            self._again.set()

    @property
    def has_rested(self) -> bool:
        """Whether its last end is long enough ago for another try of what was refused."""
        return self._elapsed() - self._ended_at >= self._rest

    @property
    def because(self) -> str:
        """Why it is as it is, in a sentence; of one that is tried again, why it was away."""
        return self._ended_by or self.reason

    @property
    def outlook(self) -> str:
        """Since when it is not connected and when it is tried again, for people; empty while it is
        connected or was never wanted."""
        if not self._ended_by:
            return ""
        now = self._elapsed()
        since = f"for {spell(now - self._away_since)}"
        if self.state is LoginState.STARTING:
            return f"{since}; it is being tried now"
        if self._next_try is None:
            is_ending = self.state is LoginState.RECONNECTING  # By its own word.
            return f"{since}; it is tried again soon" if is_ending else since
        return f"{since}; the next try is in {spell(max(self._next_try - now, 0))}"

    @property
    def account(self) -> str:
        """Both in one, as people read it everywhere; empty where there is nothing to say."""
        return join(self.because, self.outlook)

    @property
    def trouble(self) -> str:
        """The same of one that is not connected and was wanted; else empty."""
        return self.account if self.outlook else ""

    def report(self, state: LoginState, reason: str = "") -> None:
        """Take note of what the client says of itself, until it is stopped."""
        if not self._is_stopped:
            self._note(state, reason)

    def _note(self, state: LoginState, reason: str) -> None:
        # Only one that rests says why it is starting: until now nobody wanted it.
        has_rested = self.state is LoginState.STARTING and self.reason and state in _AWAY
        if has_rested or (self.state is LoginState.CONNECTED and state is not self.state):
            self._away_since = self._elapsed()
        self.state, self.reason = state, reason
        if state in _AWAY:
            self._ended_by = reason or "it is not connected"
        elif reason or state is not LoginState.STARTING:
            self._ended_by = ""
        if state is LoginState.CONNECTED:
            self.connected.set()
        else:
            self.connected.clear()
        self._on_state(state, reason)

    async def stop(self, reason: str = "stopped") -> None:
        """End the client within its limit. One that will not stop is left behind, with a word."""
        self._is_stopped = True
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=self._stop_limit)
        if not done:
            log.error("%s does not stop", self.name, extra={"event": "client_stuck"})
        self._note(LoginState.OFF, reason)

    async def _run(self) -> None:
        delay = self._first_delay
        while True:
            self._next_try = None
            self.report(LoginState.STARTING)
            began = self._elapsed()
            state, reason, kind = await self._once()
            if self._is_stopped:
                return  # Its client did not let the cancellation through.
            # Whoever wanted it while it was at work had it: a refusal is no reason to knock again.
            self._again.clear()
            self._ended_at = self._elapsed()
            if self._ended_at - began > _STABLE:
                delay, self._rest = self._first_delay, self._first_rest
            is_refused = state is LoginState.SIGN_IN_NEEDED
            pause = delay * random.uniform(0.7, 1.3)  # noqa: S311 - jitter
            self._next_try = None if is_refused else self._ended_at + pause
            self.report(state, reason)
            # What a network says of one person's login may name the person.
            why = state.value + f" ({kind})" * bool(kind) if self._personal else reason
            log.warning(
                "%s is not connected: %s", self.name, join(why, self.outlook),
                extra={"event": "client_ended"},
            )  # fmt: skip
            if is_refused:
                await self._again.wait()
                self._rest = min(self._rest * 2, _LONGEST_REST)
            elif not await is_set_within(pause, self._again):
                # Else whoever says much while a network is away would be the last to be back.
                delay = min(delay * 2, _LONGEST_DELAY)

    async def _once(self) -> tuple[LoginState, str, str]:
        """Run it to its end; in which state it is then, why, and what may be said in the log."""
        try:
            await self.client.run()
        except ModuleNotReady as error:
            return LoginState.RECONNECTING, str(error), _kind(error)
        except LoginRequired as error:
            return LoginState.SIGN_IN_NEEDED, str(error), _kind(error)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_meant_for_us():
                raise
            # A module is a stranger; its crash is ours to outlive.
            log.exception("%s crashed", self.name, extra={"event": "client_crashed"})
            name = type(error).__name__
            return LoginState.RECONNECTING, f"it failed with {name}", name
        return LoginState.RECONNECTING, "the connection ended", ""


def _kind(error: ModuleError) -> str:
    """What kind of end it was, without a name of anybody."""
    cause = error.__cause__
    if error.kind or not isinstance(cause, OSError) or not (cause.errno or 0) > 0:
        return error.kind
    return os.strerror(cause.errno or 0)
