"""What the settings configure: which networks and bots, who is ours, what is wrong with them."""

from collections.abc import Iterator, Sequence

from bridge.core.host.actions import WORDS
from bridge.core.host.catalogue import describe, find_module
from bridge.matrix.namespaces import Namespaces
from bridge.model import Permission
from bridge.running.workshop import load_module, make_module
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.module import FindsChats, Kept
from bridge.settings.options import check_module
from bridge.settings.records import Settings


def split_modules(settings: Settings) -> tuple[list[InstanceId], list[InstanceId]]:
    """The instances of networks and those of bots. Raises ``ConfigError`` for unknown modules."""
    networks: list[InstanceId] = []
    bots: list[InstanceId] = []
    for instance, module in settings.modules.items():
        found = find_module(module.module, f"modules.{instance}.module")
        (bots if found.is_bot else networks).append(instance)
    return networks, bots


def namespaces_of(settings: Settings) -> Namespaces:
    """Who is ours, by the settings."""
    networks, bots = split_modules(settings)
    appservice = settings.appservice
    return Namespaces(
        server_name=settings.homeserver.server_name,
        prefix=appservice.prefix,
        bot_localpart=appservice.bot_localpart,
        sender_localpart=appservice.sender_localpart,
        networks=networks,
        bots=bots,
        templates=templates_of(settings),
    )


def keeps_of(settings: Settings, instance: InstanceId) -> Sequence[Kept]:
    """What an instance's module keeps, by its own word. Raises ``ConfigError`` if it has none."""
    module = find_module(settings.modules[instance].module, f"modules.{instance}.module")
    return describe(module)[0].keeps


def templates_of(settings: Settings) -> dict[InstanceId, str]:
    """How the chats of some networks are called as aliases, where that is not as ids are."""
    return {
        instance: template
        for instance in split_modules(settings)[0]
        if (template := settings.modules[instance].rules.alias_template)
    }


def check_modules(settings: Settings) -> None:
    """Raise ``ConfigError`` for the first module or room with something wrong."""
    for error in module_problems(settings):
        raise error


def module_problems(settings: Settings) -> Iterator[ConfigError]:
    """Say of each module that is unknown or has an option wrong what it is; of rooms too."""
    kinds: dict[InstanceId, bool] = {}
    for instance, module in settings.modules.items():
        try:
            kinds[instance] = find_module(module.module, f"modules.{instance}.module").is_bot
            check_module(load_module(settings, instance).settings, module)
        except ConfigError as error:
            yield error
        if instance in WORDS and kinds.get(instance) is False:
            yield ConfigError(
                f"no network can be called so: `{as_typed(instance)}` is a command of the bot's "
                "own, and those of the network would not be heard; give it another name",
                path=f"modules.{instance}",
            )
    for number, room in enumerate(settings.rooms):
        for instance in room.bridge:
            if instance not in settings.modules or kinds.get(instance):
                yield _no_such(instance, "network", f"rooms[{number}].bridge", kinds, bots=False)
        for instance in room.bots:
            if instance not in settings.modules or kinds.get(instance) is False:
                yield _no_such(instance, "bot", f"rooms[{number}].bots", kinds, bots=True)
    if settings.rooms and not admins_of(settings):
        yield ConfigError(
            f"somebody must answer for them: {name_an_admin(settings)}", path="rooms"
        )


def admins_of(settings: Settings) -> list[UserId]:
    """The people whom the permissions name as admins."""
    return [
        UserId(who)
        for who, level in settings.permissions.items()
        if who.startswith("@") and level is Permission.ADMIN
    ]


NO_ADMIN = "nobody is invited to a status room when something is wrong, nor can answer for `rooms`"
"""What follows where the permissions name no admin."""


def name_an_admin(settings: Settings) -> str:
    """The way out of that."""
    return f"name an admin in permissions, `'@you:{settings.homeserver.server_name}': admin`"


def _no_such(
    instance: InstanceId, what: str, path: str, kinds: dict[InstanceId, bool], *, bots: bool
) -> ConfigError:
    names = ", ".join(sorted(one for one, is_bot in kinds.items() if is_bot is bots)) or "none"
    return ConfigError(f"modules has no {what} called {instance!r}; there are: {names}", path=path)


def protocols_of(settings: Settings) -> list[str]:
    """The third-party protocols of the configured networks, for the registration."""
    found = set()
    for instance in split_modules(settings)[0]:
        connector = make_module(settings, instance)
        if isinstance(connector, FindsChats):
            found.add(connector.directory.protocol)
    return sorted(found)
