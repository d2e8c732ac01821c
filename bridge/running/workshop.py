"""Makes what belongs to one configured instance: its module, its store, its host, its timers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from bridge.core.consent.guests import Guests
from bridge.core.host.bots import BotHost, Stage
from bridge.core.host.catalogue import describe, find_module
from bridge.core.host.hosting import InstanceMetrics
from bridge.core.host.instances import Instance
from bridge.core.host.timers import TimerKeeper
from bridge.core.intake.routes import Routes
from bridge.core.lanes.patience import Patience
from bridge.core.portals.portals import Portals
from bridge.logs import hide
from bridge.matrix.namespaces import Namespaces
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.sdk.ids import InstanceId
from bridge.sdk.module import Bot
from bridge.sdk.timers import HearsTimers
from bridge.settings.options import check_module, secrets_in
from bridge.settings.records import ModuleSettings, Settings
from bridge.storage.accounts import Accounts
from bridge.storage.keys import DayKeys
from bridge.storage.modulestore import InstanceStore
from bridge.storage.pool import Database
from bridge.storage.timers import InstanceTimers
from bridge.telemetry import Telemetry


def load_module(settings: Settings, instance: InstanceId) -> Any:
    """Give the class of an instance's module. Raises ``ConfigError`` if there is none."""
    return find_module(settings.modules[instance].module, f"modules.{instance}.module").load()


def model_of(module: ModuleSettings) -> type[BaseModel]:
    """The model of an instance's options. Raises ``ConfigError`` if there is no such module."""
    found = find_module(module.module, f"modules.{module.instance}.module")
    return describe(found)[1]


def read_options(settings: Settings) -> dict[InstanceId, tuple[str, BaseModel]]:
    """Give each instance's module and options as they are now, secrets read from their files.

    Raises ``ConfigError`` for what is wrong with them.
    """
    return {
        instance: (module.module, check_module(model_of(module), module))
        for instance, module in settings.modules.items()
    }


def make_module(settings: Settings, instance: InstanceId, *more: object) -> object:
    """Make the instance's connector or bot. Raises ``ConfigError`` for what is wrong with it."""
    loaded = load_module(settings, instance)
    options = check_module(loaded.settings, settings.modules[instance])
    hide(*secrets_in(options))
    try:
        made: object = loaded(options, *more)
        list(getattr(made, "commands", ()))  # What reading them raises, it raises here.
    except TrestleError:
        raise
    except Exception as error:  # A module is a stranger; what it does wrong is its own.
        raise ConfigError(
            f"the module {settings.modules[instance].module} failed with "
            f"{type(error).__name__} when it was made",
            path=f"modules.{instance}",
        ) from error
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Makes instances, at the start and when the settings are read again."""

    database: Database
    day_keys: DayKeys
    accounts: Accounts
    telemetry: Telemetry
    namespaces: Namespaces
    guests: Guests

    def store(self, instance: InstanceId) -> InstanceStore:
        """Give an instance's map."""
        return InstanceStore(self.database, instance)

    def networks(self, settings: Settings, portals: Portals) -> dict[InstanceId, Instance]:
        """Make every network."""
        return {one: self.network(settings, one, portals) for one in self.namespaces.networks}

    def bots(
        self, settings: Settings
    ) -> tuple[dict[InstanceId, Bot], dict[InstanceId, InstanceTimers]]:
        """Make every bot, and its timers."""
        made = {one: self.bot(settings, one) for one in self.namespaces.bots}
        return {i: bot for i, (bot, _) in made.items()}, {i: one for i, (_, one) in made.items()}

    def keepers(
        self,
        settings: Settings,
        bots: Mapping[InstanceId, Bot],
        timers: Mapping[InstanceId, InstanceTimers],
        stage: Stage,
        routes: Routes,
    ) -> dict[InstanceId, TimerKeeper]:
        """Make the keepers of the timers, for those bots that hear them."""
        made = {
            one: self.keeper(settings, one, bot, timers[one], stage, routes)
            for one, bot in bots.items()
        }
        return {one: keeper for one, keeper in made.items() if keeper is not None}

    def network(self, settings: Settings, instance: InstanceId, portals: Portals) -> Instance:
        """Make a network, not started. Raises ``ConfigError``."""
        connector = make_module(settings, instance)
        return Instance(
            instance, connector, self.accounts, self.store(instance),  # type: ignore[arg-type]
            self.database.clock, self.telemetry, receive=portals.receive, guests=self.guests,
            chats=portals.chats,
        )  # fmt: skip

    def bot(self, settings: Settings, instance: InstanceId) -> tuple[Bot, InstanceTimers]:
        """Make a bot and its timers. Raises ``ConfigError``."""
        timers = InstanceTimers(self.database, self.day_keys, instance)
        metrics = InstanceMetrics(self.telemetry, instance, load_module(settings, instance).info)
        host = BotHost(instance, self.store(instance), self.database.clock, metrics, timers)
        bot: Bot = make_module(settings, instance, host)  # type: ignore[assignment]
        timers.are_heard = isinstance(bot, HearsTimers)
        return bot, timers

    def keeper(
        self,
        settings: Settings,
        instance: InstanceId,
        bot: Bot,
        timers: InstanceTimers,
        stage: Stage,
        routes: Routes,
    ) -> TimerKeeper | None:
        """Make the keeper of the bot's timers, None if it hears none."""
        if not isinstance(bot, HearsTimers):
            return None
        return TimerKeeper(
            f"bot:{instance}", self.namespaces.bot_of(instance), bot, timers, stage,
            self.database.clock, self.telemetry, is_there=routes.has_seat,
            patience=Patience(tries=settings.limits.tries, first_delay=1.0),
        )  # fmt: skip
