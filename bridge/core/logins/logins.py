"""People's logins: how they come to be, which of several speaks, and how they end."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from bridge.core.host.instances import NOT_ALLOWED, Instance, Session
from bridge.core.lanes.cancellation import Work, is_meant_for_us
from bridge.core.lanes.patience import LONGEST_PAUSE, persistently
from bridge.core.logins.loginmeans import Means
from bridge.core.logins.signin import BEGUN_MOST, BEGUN_SECONDS, SignIn
from bridge.core.outbox.outgoing import notice
from bridge.core.permissions.claims import Claims
from bridge.core.permissions.frequency import Frequency
from bridge.model import AuditAction, LoginRow, Permission
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import (
    LoginRequired,
    PermanentFailure,
    TemporaryFailure,
    TrestleError,
)
from bridge.sdk.ids import InstanceId, LoginId, UserId
from bridge.sdk.login import Finished, LoginFlow, LoginKind, LoginState, LogsOut
from bridge.sdk.secret import Secret
from bridge.storage.vault import to_bytes

log = logging.getLogger(__name__)

IDLE_SECONDS = 900.0
"""A sign-in that nobody answered for so long is over."""
_MOST_EACH, _MOST = 3, 200
"""Sign-ins at once, of one person and of all."""
_LONGEST_NAME = 200
_LOG_OUT_SECONDS = 15.0
_KEPT = "+"
"""Before the name of what the client itself keeps beside what its owner gave."""
_PART = " "
"""Between a login's number and the name of one of its secrets, in the vault."""
_NOTHING = ""
"""The name under which it is kept that a login signs in with nothing, as a module may have it.

So one that was half made when we ended, or whose secrets were destroyed, is told from it.
"""


def record_of(login: LoginId, name: str, *, beside: bool = False) -> str:
    """How a login's secret is called in the vault; ``beside``: the client itself keeps it."""
    return f"{login}{_PART}{_KEPT if beside else ''}{name}"


def target_of(name: str, instance: InstanceId) -> str:
    """How a login is called in the audit."""
    return f"{name} on {instance}"


def instance_of(target: str) -> InstanceId:
    """On which instance a login is that the audit calls so; no instance has a space."""
    return InstanceId(target.rpartition(" ")[2])


class Logins:
    """Every login that a person linked, on every instance."""

    def __init__(self, instances: Mapping[InstanceId, Instance], means: Means) -> None:
        self._instances = instances
        self._means = means
        self._signing: dict[str, SignIn] = {}
        self._beginnings = Frequency(BEGUN_MOST, BEGUN_SECONDS)
        self.claims = Claims()
        self._keeping = asyncio.Lock()
        self.on_end: Callable[[LoginRow], Awaitable[None]]
        """Called before a login is forgotten."""
        self._group: asyncio.TaskGroup | None = None
        self._well: set[LoginId] = set()
        """Connected since they were last refused."""
        self._ending: set[LoginId] = set()
        self._telling: dict[str, asyncio.Task[None]] = {}
        """What is being said of logins, until it is."""

    async def load(self) -> None:
        """End what a restored backup had of logins that were ended since.

        Call once the portals and the outbox are loaded, before any network is at work.
        """
        means = self._means
        rows = [row for row in await means.accounts.personal_logins() if row.owner is not None]
        over = [row for row in rows if means.ended.cover(row)]
        for row in over:
            left = [
                one for one in sorted(rows, key=lambda one: one.id)
                if (one.instance, one.owner) == (row.instance, row.owner) and one not in over
            ]  # fmt: skip
            assert row.owner is not None  # noqa: S101 - seen to above
            await self._record(row.owner, AuditAction.LOGOUT, row.instance, row.name)
            await self._end(row.owner, row, left)

    def is_ending(self, login: LoginId) -> bool:
        """Whether a login is being ended, or was: nothing is begun for it any more."""
        return login in self._ending

    def serve(self, instance: Instance) -> None:
        """Give an instance what its logins need. Call once, before it runs."""
        instance.secrets = self._secrets
        instance.keep = self._keep_beside
        instance.on_state = self._note_state
        instance.may_use = self._may_use
        instance.claims = self.claims

    async def review(self) -> None:
        """See again who may have a login, after the settings changed.

        Raises ``TemporaryFailure`` when the database is away.
        """
        for instance in list(self._instances.values()):
            await instance.review()

    def _may_use(self, person: UserId, instance: InstanceId) -> bool:
        return self._means.permissions.allows(person, Permission.USER, instance)

    async def run(self) -> None:
        """Do what goes on beside the rest, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def do(self, work: Work) -> asyncio.Task[None] | None:
        """Have it done beside the rest; None while we stop. What it raises is in the log."""
        if self._group is None:
            return None
        return self._group.create_task(_guarded(work))

    # --- signing in ---

    def networks(self, person: UserId) -> Sequence[Instance]:
        """The instances that the person may sign in to."""
        return [
            instance for _, instance in sorted(self._instances.items())
            if instance.connector.login_flows()
            and self._may_use(person, instance.name)
        ]  # fmt: skip

    def find_network(self, person: UserId, name: str) -> Instance:
        """That instance; the only one if none is named. Raises ``PermanentFailure``."""
        there = self.networks(person)
        names = ", ".join(instance.name for instance in there)
        if not there:
            raise PermanentFailure("there is no network here that you could sign in to")
        if not name and len(there) > 1:
            raise PermanentFailure(f"say which network: {names}")
        found = [instance for instance in there if name in ("", instance.name)]
        if not found:
            raise PermanentFailure(f"nobody signs in to {name[:40]!r} here; networks: {names}")
        return found[0]

    def find_flow(self, instance: Instance, name: str) -> LoginFlow:
        """That way to sign in; the only one if none is named. Raises ``PermanentFailure``."""
        flows = instance.connector.login_flows()
        found = [flow for flow in flows if name in ("", flow.id)]
        if len(found) != 1:
            ways = "; ".join(describe_ways(instance).splitlines())
            raise PermanentFailure(f"say which way to sign in to {instance.name}: {ways}")
        return found[0]

    async def begin(self, owner: UserId, instance: Instance, flow: LoginFlow) -> SignIn:
        """Begin to sign in. Raises ``PermanentFailure`` or ``TemporaryFailure``."""
        self.claims.check(owner)
        if instance not in self.networks(owner):
            raise PermanentFailure("the settings of this bridge do not let you do that")
        self._sweep()
        if not instance.is_open:
            raise TemporaryFailure(f"{instance.name} is starting", retry_after=1)
        if not self._beginnings.count(owner):
            raise PermanentFailure("you tried to sign in very often; try again in ten minutes")
        own = [one for one in self._signing.values() if one.owner == owner]
        if len(own) >= _MOST_EACH:
            self.drop(min(own, key=lambda one: one.touched_at))
        if len(self._signing) >= _MOST:
            raise TemporaryFailure("too many people sign in at once", retry_after=60)

        async def keep(end: Finished) -> LoginRow:
            async with self._keeping:
                self.claims.check(owner)
                return await self._keep(owner, instance, end)

        sign_in = SignIn(owner, instance, flow, keep, self.do)
        self._signing[sign_in.id] = sign_in
        await sign_in.begin()
        return sign_in

    def find(self, owner: UserId, name: str) -> SignIn | None:
        """The person's sign-in by that id, while it goes on and some minutes after."""
        self._sweep()
        found = self._signing.get(name)
        return found if found is not None and found.owner == owner else None

    def drop(self, sign_in: SignIn) -> None:
        """Give it up."""
        sign_in.give_up()
        self._signing.pop(sign_in.id, None)

    # --- what there is ---

    def of(self, owner: UserId) -> Sequence[Session]:
        """The person's logins, by instance, the one that speaks first."""
        return [
            session
            for _, instance in sorted(self._instances.items())
            for session in instance.logins_of(owner)
        ]

    def get(self, owner: UserId, name: str) -> Session:
        """The login by its number; by its network, if the person has one there.

        Raises ``PermanentFailure`` that names those there are.
        """
        own = self.of(owner)
        found = [s for s in own if name in ("", str(s.row.id), s.row.instance)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(f"{s.row.id} ({s.row.name} on {s.row.instance})" for s in own)
        raise PermanentFailure(f"say which by its number: {names}" if own else "you have no login")

    async def prefer(self, owner: UserId, session: Session) -> None:
        """Have this one of the person's logins on its network speak."""
        await self._means.accounts.prefer_login(session.row)
        self._instances[session.row.instance].prefer(owner, session.row.id)

    async def log_out(self, owner: UserId, session: Session) -> str:
        """End a login, here and on its network; what is to be known besides, in a sentence.

        Raises ``TemporaryFailure`` when the database is away.
        """
        row, remark = session.row, ""
        await self._record(owner, AuditAction.LOGOUT, row.instance, row.name)
        instance = self._instances[row.instance]
        client = session.client
        if isinstance(client, LogsOut):
            try:
                async with asyncio.timeout(_LOG_OUT_SECONDS):
                    await client.log_out()
            except (Exception, asyncio.CancelledError) as error:  # A module is a stranger.
                if isinstance(error, asyncio.CancelledError) and is_meant_for_us():
                    raise
                remark = f"{row.instance} was not told: {_why(error)}. End the session there too."
        self._stop_telling(row.id)
        left = [
            one.row for one in instance.logins_of(owner)
            if one.row.id != row.id and not self.is_ending(one.row.id)
        ]  # fmt: skip
        self._ending.add(row.id)
        try:
            # First of all: by a connection people of the network begin new chats.
            await session.supervisor.stop(
                f"its logout was cut off; say {as_typed(f'logout {row.id}')} to finish it"
            )
            await self._end(owner, row, left)
        except BaseException:
            self._ending.discard(row.id)
            raise
        await instance.close_login(row.id)
        if row.preferred and left:
            instance.prefer(owner, left[0].id)
        return remark

    async def end_absent(self, owner: UserId) -> Sequence[str]:
        """End the logins that the person has yet, also those that were made by themselves.

        Give what the linked ones are called. Raises ``TemporaryFailure``.
        """
        ended = []
        async with self._keeping:  # What was being made is there; the claim lets no more be made.
            rows = await self._means.accounts.logins_of(owner)
        for row in rows:
            self._ending.add(row.id)
            if (instance := self._instances.get(row.instance)) is not None:
                await instance.end_automatic(owner)
                await instance.close_login(row.id)
            if row.kind is LoginKind.PERSON:
                await self._record(owner, AuditAction.LOGOUT, row.instance, row.name)
                await self._end(owner, row, ())
                ended.append(target_of(row.name, row.instance))
                continue
            await self.on_end(row)
            await self._means.double_puppets.forget(row, ())
            await self._forget(owner, row)
        return ended

    async def note_forgotten(self, person: UserId) -> None:
        """Have nothing at work with what the person's records in the vault held.

        Call when they were destroyed. Raises ``TemporaryFailure`` when the database is away.
        """
        for one in [one for one in self._signing.values() if one.owner == person]:
            self.drop(one)
        await self._means.double_puppets.forget_token(person)
        for instance in list(self._instances.values()):
            await instance.reopen(person)

    # --- inside ---

    async def _keep(self, owner: UserId, instance: Instance, end: Finished) -> LoginRow:
        """Put what the module gave into the vault, and have the login at work."""
        means = self._means
        if not self._may_use(owner, instance.name):
            raise PermanentFailure("the settings of this bridge do not let you do that")
        name = end.name[:_LONGEST_NAME]
        await self._record(owner, AuditAction.LINK, instance.name, name)
        await means.ended.remove(owner, instance.name, name)
        row = await means.accounts.link_login(instance.name, owner, name)
        given = end.secrets or {_NOTHING: Secret("")}
        values = {record_of(row.id, name): to_bytes(secret) for name, secret in given.items()}
        stale = await self._records(owner, row, all_of_it=False)
        gone = [record for record in stale if record not in values]
        await means.vault.exchange(owner, instance.name, values, gone=gone, login=row.id)
        await means.told.forget_told(owner, _refusal(row.id))
        await instance.open_login(row)
        log.info("a login is linked", extra={"event": "linked", "instance": instance.name})
        return row

    async def _keep_beside(self, row: LoginRow, name: str, secret: Secret | None) -> None:
        record = record_of(row.id, name, beside=True)
        if secret is None:
            await self._means.vault.delete(row.owner, row.instance, record)
            return
        await self._means.vault.put(
            row.owner, row.instance, record, to_bytes(secret), login=row.id
        )

    async def _record(
        self, owner: UserId, action: AuditAction, instance: InstanceId, name: str
    ) -> None:
        """Note it before it is done: nothing is done of which the audit does not know."""
        await self._means.audit.record(
            actor=owner, action=action, target=target_of(name, instance), subject=owner
        )

    async def _end(self, owner: UserId, row: LoginRow, left: Sequence[LoginRow]) -> None:
        """Forget a login that is not at work, and all that is its own.

        ``left`` are its owner's others on its network. The login itself goes last: so it is
        done again if we end meanwhile.
        """
        means = self._means
        await self.on_end(row)
        await means.ended.add(owner, row.instance, row.name)
        # The account there may be somebody else's next.
        await means.double_puppets.forget(row, [one.id for one in left])
        if row.preferred and left:
            await means.accounts.prefer_login(left[0])
        await self._forget(owner, row)

    async def _forget(self, owner: UserId, row: LoginRow) -> None:
        for record in await self._records(owner, row):
            await self._means.vault.delete(owner, row.instance, record)
        await self._means.accounts.remove_login(row.id)

    async def _records(
        self, owner: UserId, row: LoginRow, *, all_of_it: bool = True
    ) -> Sequence[str]:
        """What a login signs in with, and with ``all_of_it`` what it keeps beside."""
        found = []
        for where, record in await self._means.vault.records_of(owner):
            number, _, name = record.partition(_PART)
            is_its = where == row.instance and number == str(row.id)
            if is_its and (all_of_it or not _is_kept(name)):
                found.append(record)
        return found

    async def _secrets(self, row: LoginRow) -> Mapping[str, Secret]:
        try:
            records = await self._means.vault.secrets_of(row.id)
        except PermanentFailure as error:
            log.error("a login cannot be opened: %s", error, extra={"event": "login_locked"})
            raise LoginRequired(
                "what this login signs in with cannot be read any more; sign in again"
            ) from error
        if row.kind is LoginKind.PERSON and not records:
            log.warning("a login has nothing to sign in with", extra={"event": "login_empty"})
            raise LoginRequired("what this login signs in with is not there; sign in again")
        named = {record.partition(_PART)[2]: value for record, value in records.items()}
        named.pop(_NOTHING, None)
        # Sorted: what is kept beside comes last, and so takes the place of what was given.
        return {name.removeprefix(_KEPT): named[name] for name in sorted(named, key=_is_kept)}

    def _note_state(self, row: LoginRow, state: LoginState, reason: str) -> None:
        if row.kind is not LoginKind.PERSON or row.owner is None:
            return
        if state is LoginState.SIGN_IN_NEEDED:
            self._well.discard(row.id)
            self._tell(
                row, row.owner, _refusal(row.id),
                f"needs you to sign in again: {reason.rstrip('.')}. Say login {row.instance}, or "
                f"logout {row.id} to be rid of it.",
            )  # fmt: skip
        elif state is LoginState.OFF and reason == NOT_ALLOWED:
            self._well.discard(row.id)
            self._tell(
                row, row.owner, _absence(row.id),
                f"is off: {reason}. What it signs in with is kept, and it comes back when the "
                f"settings let it; say logout {row.id} to be rid of it.",
            )  # fmt: skip
        elif state is LoginState.CONNECTED and row.id not in self._well:
            self._well.add(row.id)
            self._stop_telling(row.id)
            for what in (_refusal(row.id), _absence(row.id)):
                self.do(partial(self._means.told.forget_told, row.owner, what))

    def _tell(self, row: LoginRow, owner: UserId, what: str, text: str) -> None:
        """Have it said beside the rest, unless it already is."""
        if what in self._telling:
            return
        task = self.do(partial(self._tell_once, row, owner, what, text))
        if task is None:
            return

        def forget(done: asyncio.Task[None]) -> None:
            if self._telling.get(what) is done:
                del self._telling[what]

        self._telling[what] = task
        task.add_done_callback(forget)

    def _stop_telling(self, login: LoginId) -> None:
        """Stop saying how a login was."""
        for what in (_refusal(login), _absence(login)):
            task = self._telling.pop(what, None)
            if task is not None:
                task.cancel()

    async def _tell_once(self, row: LoginRow, owner: UserId, what: str, text: str) -> None:
        """Say of a login to its owner, once, where nobody else reads it."""
        means, source = self._means, (what, secrets.token_hex(8))

        async def tell() -> None:
            if await means.told.was_told(owner, what):
                return
            room = await means.private_chats.open(means.bot, owner)
            await means.sender.put([notice(
                means.key_of, room=room, user=means.bot, source=source,
                text=f"Your login {row.name} on {row.instance} {text}",
            )])  # fmt: skip
            await means.told.note_told(owner, what)

        try:
            await persistently(tell, LONGEST_PAUSE)
        except TrestleError as error:
            log.warning("nobody told of a login: %s", error, extra={"event": "login_not_told"})

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for one in list(self._signing.values()):
            if now - one.touched_at > IDLE_SECONDS:
                self.drop(one)


async def _guarded(work: Work) -> None:
    try:
        await work()
    except TrestleError as error:
        log.warning("a sign-in stopped: %s", error, extra={"event": "login_stopped"})
    except Exception:  # One person's trouble is not everybody's.
        log.exception("a sign-in failed", extra={"event": "login_failed"})


def _why(error: BaseException) -> str:
    """Why a network was not told of a logout. What nobody foresaw is in the log."""
    if isinstance(error, TimeoutError):
        return "it did not answer"
    if isinstance(error, TrestleError) and str(error):
        return str(error).rstrip(".")
    log.error("a logout failed", exc_info=error, extra={"event": "logout_failed"})
    return f"it failed with {type(error).__name__}"


def describe_ways(instance: Instance) -> str:
    """The ways to sign in to a network, a line each, after the word that chooses it."""
    flows = instance.connector.login_flows()
    return "\n".join(f"{flow.id}: {flow.title}" for flow in flows)


def _is_kept(name: str) -> bool:
    return name.startswith(_KEPT)


def _refusal(login: LoginId) -> str:
    return f"login {login} refused"


def _absence(login: LoginId) -> str:
    return f"login {login} off"
