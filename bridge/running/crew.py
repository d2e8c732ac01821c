"""The tasks of the configured instances: each is started and ended alone."""

import asyncio
import logging
from collections.abc import Mapping

from bridge.core.host.instances import Instance
from bridge.core.host.timers import TimerKeeper
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId

log = logging.getLogger(__name__)

_END_SECONDS = 10.0
_AGAIN_SECONDS = 60.0


class Crew:
    """Runs networks and the keepers of bots' timers in the program's task group."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: dict[InstanceId, asyncio.Task[None]] = {}

    def start_networks(self, networks: Mapping[InstanceId, Instance]) -> None:
        """Have each connect, and stay so."""
        for name, instance in networks.items():
            self._tasks[name] = self._group.create_task(_keep(instance), name=f"network {name}")

    def start_keepers(self, keepers: Mapping[InstanceId, TimerKeeper]) -> None:
        """Have each bot's timers rung."""
        for name, keeper in keepers.items():
            task = self._group.create_task(keeper.run(), name=f"timers of {keeper.name}")
            self._tasks[name] = task

    async def end(self, name: InstanceId) -> None:
        """Have one network's connections closed, or one bot's timers rest."""
        if name in self._tasks:
            await end([self._tasks.pop(name)], asyncio.get_running_loop().time() + _END_SECONDS)

    async def end_all(self, until: float) -> None:
        """Have all connections closed and all timers rest, until then (loop time)."""
        await end(list(self._tasks.values()), until)


async def end(tasks: "list[asyncio.Task[None]]", until: float) -> None:
    """Cancel the tasks, and wait for their end until then (loop time)."""
    for task in tasks:
        task.cancel()
    if tasks:
        left = until - asyncio.get_running_loop().time()
        await asyncio.wait(tasks, timeout=max(0.2, left))


async def _keep(instance: Instance) -> None:
    """Run the instance; a database that is away when it starts is no reason to end all."""
    while True:
        try:
            await instance.run()
        except* TemporaryFailure as group:
            log.warning(
                "%s waits to be started: %s", instance.name, group.exceptions[0],
                extra={"event": "network_waits", "instance": instance.name},
            )  # fmt: skip
            await asyncio.sleep(1)
        except* Exception:  # A module is a stranger; its crash is ours to outlive.
            log.exception(
                "%s cannot be started; it is tried again in a minute", instance.name,
                extra={"event": "network_failed", "instance": instance.name},
            )  # fmt: skip
            await asyncio.sleep(_AGAIN_SECONDS)
