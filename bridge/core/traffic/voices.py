"""Whose login speaks for whom in a portal."""

from dataclasses import replace

from bridge.core.host.announcing import Place
from bridge.core.host.instances import Instance, Session
from bridge.core.logins.ownlogins import own_login
from bridge.core.outbox.outgoing import notice, once
from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.rooms.house import House
from bridge.core.traffic.departures import Said
from bridge.model import AuditAction, Permission, Puppets
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import Sender
from bridge.sdk.ids import UserId
from bridge.sdk.login import LoginState


class Waited(TemporaryFailure):
    """Something was waited for: what is said is begun anew, under whatever holds now."""

    def __init__(self) -> None:
        super().__init__("it is begun anew", retry_after=0)


class Voices:
    """One portal's."""

    def __init__(self, facts: ChatFacts, house: House) -> None:
        self._facts = facts
        self._house = house
        self.are_over = False
        """Nobody speaks here any more."""

    @property
    def puppets(self) -> Puppets:
        """Whose account speaks here."""
        portal = self._facts.portal
        return portal.puppets or self._house.rules(portal.instance).puppets

    def why_unheard(self, person: UserId) -> str:
        """Why what somebody says stays in Matrix: by the settings, or as those wish who run the
        chat. Empty if it does not: people of other networks are heard, too, as their ghosts."""
        house, portal = self._house, self._facts.portal
        is_let = house.namespaces.is_ghost(person) or house.permissions.allows(
            person, Permission.RELAY, portal.instance
        )
        if not is_let:
            return (
                f"the settings of this bridge do not let {person} speak on {portal.instance}, "
                f"which those who run {house.namespaces.bot} can change"
            )
        if house.blocks.cover(portal.instance, portal.chat, person):
            return f"those who run {portal.chat_name} take nothing of {person}, until they unblock"
        return ""

    async def choose(
        self, instance: Instance, said: Said, *, puppets: bool
    ) -> tuple[Session, Said]:
        """Choose the login that speaks for the sender, who is heard here; ``puppets``: whether
        the network lets people have their own. Raises a ``DeliveryError``.

        That is ``Waited`` where the sender had to be told, or lost the leave, meanwhile.
        """
        house, portal, sender = self._house, self._facts.portal, said.sender.user_id
        level = house.permissions.of(sender, instance.name)
        if not instance.is_open:
            raise TemporaryFailure(f"{instance.name} is starting", retry_after=0.5)
        if portal.receiver is not None:
            session = await self._receiver(instance, said)
        else:
            own = puppets and level >= Permission.USER and not house.namespaces.is_ghost(sender)
            session, said = await self._any(instance, said, own=own)
        if session.is_refused:
            raise PermanentFailure(
                f"{instance.name} refused the login: {session.supervisor.reason}"
            )
        await session.wake()
        return session, said

    def check(self, sender: UserId) -> None:
        """Raise ``TemporaryFailure`` if the sender is not to be heard any more: what was chosen
        for them is void. The next try, if the room is still tied, finds out why."""
        house, portal = self._house, self._facts.portal
        if (
            self.are_over
            or portal.paused
            or portal.id in house.policies.waiting
            or house.optouts.cover(sender, portal.id)
            or house.policies.cover(portal.id, sender)
            or house.blocks.cover(portal.instance, portal.chat, sender)
        ):
            raise TemporaryFailure("that ended meanwhile", retry_after=0.1)

    async def _any(self, instance: Instance, said: Said, *, own: bool) -> tuple[Session, Said]:
        """The sender's own, else one that is made for them, else a relay."""
        sender, mode = said.sender.user_id, self.puppets
        linked = instance.logins_of(sender) if own and mode is not Puppets.RELAY else ()
        if linked:
            return linked[0], said
        if own and mode is Puppets.AUTOMATIC:
            return await self._made(instance, said.sender), said
        relay = self._relay(instance)
        if relay is None:
            raise TemporaryFailure(f"{instance.name} is not at work", retry_after=0.5)
        return relay, replace(said, relayed=relay.row.owner != sender)

    async def _made(self, instance: Instance, sender: Sender) -> Session:
        """The sender's automatic login, once they were told."""
        house, portal, person = self._house, self._facts.portal, sender.user_id
        if not house.announcer.is_done(person, instance.name):
            rules = house.rules(instance.name)
            place = Place(portal.instance, portal.room, portal.chat_name)
            foretell = instance.foretell(person, sender.name)
            # The room's order holds: while somebody reads, those who come after wait.
            while left := await house.announcer.hold(person, place, rules, foretell):
                await house.announcer.wait_until_read(person, instance.name, left)
            # They may have said no, as the notice told them.
            raise Waited
        try:
            return await instance.session_of(person, sender.name)
        except PermanentFailure as error:
            if house.permissions.allows(person, Permission.USER, instance.name):
                raise
            raise Waited from error

    async def _receiver(self, instance: Instance, said: Said) -> Session:
        """The one login whose direct chat it is, for its owner: nobody else speaks there."""
        house, portal = self._house, self._facts.portal
        if said.sender.user_id != portal.created_by:
            raise PermanentFailure(f"it is a chat of {portal.created_by} alone")
        if not house.permissions.allows(said.sender.user_id, Permission.USER, instance.name):
            raise PermanentFailure(f"the settings do not let you talk alone on {instance.name}")
        session = instance.find_login(portal.receiver) if portal.receiver is not None else None
        if session is None:
            rules = house.rules(instance.name)
            session = await own_login(instance, said.sender, portal.room, rules, house.announcer)
        if session.row.id != portal.receiver:
            raise PermanentFailure(
                "it was a chat of another connection of yours, which is not at work; say "
                f"{as_typed(f'{instance.name} query {portal.chat_name}')} for one with the present"
            )
        return session

    def _relay(self, instance: Instance) -> Session | None:
        """Who speaks for those who have no account: a login that was lent, while it is well."""
        lent = self._find_lent(instance)
        if lent is None or lent.supervisor.state in {LoginState.OFF, LoginState.SIGN_IN_NEEDED}:
            return instance.relay
        owner = lent.row.owner
        if owner is not None and self._house.optouts.cover(owner, self._facts.portal.id):
            return instance.relay
        return lent

    def _find_lent(self, instance: Instance | None) -> Session | None:
        portal = self._facts.portal
        if portal.relay is None or instance is None:
            return None
        return instance.find_login(portal.relay)

    async def end_loan(self, person: UserId, why: str) -> Session | None:
        """End the person's login speaking for others, if it does, and tell the room ``why``.

        Gives the login that did. Raises ``TemporaryFailure`` when the database is away.
        """
        house, portal = self._house, self._facts.portal
        instance = house.instances.get(portal.instance)
        if portal.relay is not None and instance is not None and not instance.is_open:
            raise TemporaryFailure("the logins are not opened yet", retry_after=0.5)
        lent = self._find_lent(instance)
        if lent is None or lent.row.owner != person:
            return None
        await self.take_back(person, why)
        return lent

    async def take_back(self, person: UserId, why: str) -> None:
        """Have the bridge's own connection speak for others again, and not the person's login.

        The room is told ``why``. Raises ``TemporaryFailure`` when the database is away.
        """
        house, portal = self._house, self._facts.portal
        await house.audit.record(
            actor=person, action=AuditAction.SET, subject=portal.created_by,
            target=f"{portal.instance} {portal.chat} {portal.room}",
        )  # fmt: skip
        await house.sender.put([
            notice(
                house.key_of, room=portal.room, user=house.namespaces.bot,
                text=f"The login of {person} speaks for others in {portal.chat_name} on "
                f"{portal.instance} no more: {why}. The bridge's own connection does.",
                source=("loan over", once()),
            )
        ])  # fmt: skip
        # What was chosen meanwhile stays.
        async with self._facts.choosing:
            await house.store.set_choices(replace(self._facts.portal, relay=None))
            self._facts.portal = replace(self._facts.portal, relay=None)
