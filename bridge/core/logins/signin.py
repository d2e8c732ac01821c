"""One person signing in to a network, step by step, wherever the steps are shown."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping

from bridge.core.host.instances import Instance
from bridge.core.lanes.cancellation import Work, is_meant_for_us
from bridge.model import LoginRow
from bridge.sdk.errors import DeliveryError, LoginRequired, ModuleError, PermanentFailure
from bridge.sdk.ids import UserId
from bridge.sdk.login import Ask, Finished, LoginFlow, LoginProcess, SignsIn, Step
from bridge.sdk.secret import Secret

log = logging.getLogger(__name__)

LONGEST_ANSWER = 8192
"""Characters in one field."""
CALL_SECONDS = 50.0
"""What a network has to answer; proxies before the web give us a minute."""
MOST_REFUSALS = 5
"""Nobody is to try passwords of others through us."""
SHOWN_SECONDS = 600.0
"""How long a link or a code is good at most."""

BEGUN_MOST, BEGUN_SECONDS = 12, 600.0
"""So many sign-ins may one person begin in that time."""

Keep = Callable[[Finished], Awaitable[LoginRow]]
Do = Callable[[Work], asyncio.Task[None] | None]


class SignIn:
    """A process of a module at work. Where its steps are shown, it does not know either."""

    def __init__(
        self, owner: UserId, instance: Instance, flow: LoginFlow, keep: Keep, do: Do
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.owner = owner
        self.instance = instance
        self.flow = flow
        self.step: Step | None = None
        """What the person is to do now; None when it is over."""
        self.number = 0
        """Grows with each step."""
        self.trouble = ""
        """Why it did not go on, in a sentence."""
        self.login: LoginRow | None = None
        """What came of it, once it worked."""
        self.touched_at = asyncio.get_running_loop().time()
        self._refusals = 0
        self._keep = keep
        self._do = do
        self._process: LoginProcess
        self._busy = asyncio.Lock()
        self._changed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._is_given_up = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to come."""
        return self.step is None and not self._busy.locked()

    async def begin(self) -> None:
        """Come to the first step."""
        async with self._busy:
            connector: object = self.instance.connector
            if not isinstance(connector, SignsIn):
                raise PermanentFailure(f"nobody signs in to {self.instance.name}")
            self._process = connector.begin_login(self.flow.id, self.owner)
            await self._go_on(self._process.start(), CALL_SECONDS, again=False)

    async def submit(self, answers: Mapping[str, str]) -> None:
        """Go on with what the person filled in; :attr:`trouble` says if it was no good.

        Raises ``PermanentFailure`` when nothing was asked, or what was asked is missing.
        """
        if not isinstance(self.step, Ask):
            raise PermanentFailure("there is nothing to fill in now")
        if self._busy.locked():
            raise PermanentFailure("your last answer is being looked at; wait for that")
        given = check_answers(self.step, answers)
        async with self._busy:
            self.touched_at = asyncio.get_running_loop().time()
            await self._go_on(self._process.submit(given), CALL_SECONDS, again=True)

    async def wait_until_changed(self, number: int, limit: float) -> None:
        """Return when there is another step than that one, or after ``limit`` seconds."""
        try:
            async with asyncio.timeout(limit):
                while self.number == number and not self.is_over:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def give_up(self) -> None:
        """Have it end as it is."""
        if self._following is not None:
            self._following.cancel()
        self._is_given_up = True
        self.step = None
        self._changed.set()

    # --- inside ---

    async def _go_on(self, call: Awaitable[Step | Finished], limit: float, *, again: bool) -> None:
        """Await the module. After a failure the same step may be answered ``again``, or none."""
        try:
            async with asyncio.timeout(limit):
                got = await call
            self.trouble = ""
            if self._is_given_up:
                again = False
            elif isinstance(got, Finished):
                again = False
                self.login = await self._keep(got)
                self.step = None
            else:
                self.step = got
                if not isinstance(got, Ask):
                    self._following = self._do(self._follow)
        except (ModuleError, DeliveryError) as error:
            self.trouble = sentence(error)
            self._refusals += isinstance(error, LoginRequired)
            again = again and self._refusals < MOST_REFUSALS
        except TimeoutError:
            self.trouble = f"{self.instance.name} did not answer in time."
        except (Exception, asyncio.CancelledError) as error:  # A module is a stranger.
            if isinstance(error, asyncio.CancelledError) and is_meant_for_us():
                raise
            log.exception("a login failed", extra={"event": "login_crashed"})
            self.trouble, again = (
                f"It failed with {type(error).__name__}; the log says more.",
                False,
            )
        if self._is_given_up or (self.trouble and not again):
            self.step = None
        self.number += 1
        self._changed.set()

    async def _follow(self) -> None:
        """Wait for what the person does elsewhere."""
        async with self._busy:
            await self._go_on(self._process.submit({}), SHOWN_SECONDS, again=False)


def check_answers(step: Ask, answers: Mapping[str, str]) -> Mapping[str, Secret]:
    """What the module is given. Raises ``PermanentFailure`` that names what is missing."""
    found = {}
    for field in step.fields:
        given = answers.get(field.name, "")
        if len(given) > LONGEST_ANSWER:
            raise PermanentFailure(f"{field.label}: that is too long")
        if given:
            found[field.name] = Secret(given)
        elif field.required:
            raise PermanentFailure(f"{field.label}: that is needed")
    unknown = set(answers) - {field.name for field in step.fields}
    if unknown:
        raise PermanentFailure("that holds answers to what was not asked")
    return found


def sentence(error: Exception) -> str:
    """What an error says, with a full stop."""
    text = str(error).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
