"""The modules: their settings, and what each finds out for itself."""

import asyncio
from collections.abc import Sequence

from bridge.running.roster import check_modules, split_modules
from bridge.running.workshop import make_module
from bridge.sdk.errors import TrestleError
from bridge.sdk.examination import ExaminesItself, Remark, bad, note, well
from bridge.sdk.ids import InstanceId
from bridge.settings.records import Settings

_SECONDS = 30.0


def examine_modules(settings: Settings) -> Remark:
    """Name the instances. Raises ``ConfigError`` for the first that cannot be used."""
    check_modules(settings)
    networks, bots = split_modules(settings)
    names = ", ".join(sorted([*networks, *bots]))
    if not names:
        return note("none is switched on; name some under `modules:`")
    return well(names)


async def examine_networks(settings: Settings) -> Sequence[Remark]:
    """Let all networks examine themselves at once; each remark begins with the network's name."""
    networks, _ = split_modules(settings)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_examine(settings, one)) for one in networks]
    return [remark for task in tasks for remark in task.result()]


async def _examine(settings: Settings, instance: InstanceId) -> Sequence[Remark]:
    connector = make_module(settings, instance)
    if not isinstance(connector, ExaminesItself):
        return []
    try:
        async with asyncio.timeout(_SECONDS):
            remarks = await connector.examine()
    except TimeoutError:
        remarks = [bad(f"not examined after {_SECONDS:.0f} s; does the network answer?")]
    except TrestleError as error:
        remarks = [bad(str(error))]
    return [Remark(one.level, f"{instance}: {one.sentence}") for one in remarks]
