"""The login by which a person does something, made here where people need not sign in."""

from bridge.core.host.announcing import Announcer, Place
from bridge.core.host.instances import Instance, Session
from bridge.model import InstanceRules, Puppets
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Sender
from bridge.sdk.ids import RemoteChatId, RoomId


def whose(instance: Instance, puppets: Puppets, chat: RemoteChatId) -> Puppets:
    """Whose connection speaks in a chat: the relay's also where nobody can have their own."""
    connector = instance.connector
    can_have = connector.capabilities(chat).puppets and (
        puppets is not Puppets.LOGIN or bool(connector.login_flows())
    )
    return puppets if can_have else Puppets.RELAY


def refuse_none(instance: Instance, person: Sender, rules: InstanceRules) -> None:
    """Raise ``PermanentFailure`` with why the person can have no login that does something."""
    puppets, chat = rules.puppets, RemoteChatId("")
    is_linked = bool(instance.logins_of(person.user_id))
    # One that was linked before goes on where nobody can sign in any more.
    has_it = is_linked and instance.connector.capabilities(chat).puppets
    speaks = puppets if has_it else whose(instance, puppets, chat)
    if speaks is Puppets.RELAY:
        raise PermanentFailure(
            f"nobody has a connection of their own to {instance.name} here: one speaks for all"
        )
    if puppets is not Puppets.AUTOMATIC and not is_linked:
        raise PermanentFailure(
            f"that needs an account of your own: say {as_typed(f'login {instance.name}')}"
        )


async def own_login(
    instance: Instance, person: Sender, room: RoomId, rules: InstanceRules, announcer: Announcer
) -> Session:
    """Give the person's login on the network; ``room`` is where the person is told of it.

    Nobody is given a connection who was not told what that means. Raises ``PermanentFailure``
    with why there is none, ``TemporaryFailure`` when database or homeserver are away.
    """
    refuse_none(instance, person, rules)
    linked = instance.logins_of(person.user_id)
    if linked:
        return linked[0]
    left = await announcer.hold(
        person.user_id, Place(instance.name, room), rules,
        instance.foretell(person.user_id, person.name),
    )  # fmt: skip
    if left:
        raise PermanentFailure(
            "I have told you what goes where; read that, and then say this once more"
        )
    return await instance.session_of(person.user_id, person.name)
