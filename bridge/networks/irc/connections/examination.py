"""Looking whether a network's settings are such that it would work, and be met kindly."""

import asyncio
from collections.abc import Sequence

from bridge.networks.irc.connections.dial import Way, open_server
from bridge.networks.irc.settings import IrcSettings, ServerSettings
from bridge.sdk.errors import ModuleNotReady
from bridge.sdk.examination import Remark, bad, note, well

_LIMIT = 10.0
"""Seconds to connect, if there is no proxy: an onion's way takes longer to make."""


async def examine_network(settings: IrcSettings) -> Sequence[Remark]:
    """Connect to its servers, and see whether its operators know whom to turn to."""
    found = await _examine_servers(settings)
    if settings.own_network or settings.contact is not None:
        return found
    return [*found, note(
        "those who run the network and its channels see nobody to turn to: real names, the "
        "answer to VERSION and the question before a channel is bridged name no contact. Set "
        "`contact` to a mail or web address, or a nick"
    )]  # fmt: skip


async def _examine_servers(settings: IrcSettings) -> Sequence[Remark]:
    """Connect to each server, by TLS where that is set, and leave without signing in.

    One server that answers is enough for the network.
    """
    quick = settings.model_copy(update={"connect_seconds": min(settings.connect_seconds, _LIMIT)})
    limited = [(one, settings if one.proxy else quick) for one in settings.servers]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_reason_not(one, limits)) for one, limits in limited]
    reasons = [task.result() for task in tasks]
    works = [
        server.label
        for server, reason in zip(settings.servers, reasons, strict=True)
        if reason is None
    ]
    said = note if works else bad
    found = [
        said(f"{reason} Look at `servers`: host, port, and whether it is the one for tls")
        for reason in reasons
        if reason is not None
    ]
    found += [_careless(server) for server in settings.servers if not server.tls_verify]
    return [well(f"{', '.join(works)} can be reached"), *found] if works else found


async def _reason_not(server: ServerSettings, settings: IrcSettings) -> str | None:
    way = Way(flood=(1, 1.0))
    try:
        async with open_server(server, settings, way, settings.username) as (_, writer):
            writer.close()
    except ModuleNotReady as error:
        return str(error)
    return None


def _careless(server: ServerSettings) -> Remark:
    return note(
        f"the certificate of {server.label} is not checked: anybody in between can read and "
        "change everything. Name its issuer with ca_file, and remove tls_verify: false"
    )
