"""Our listeners: free, or ours already; and whether others can reach them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp

from bridge.doors.ops import OpsServer
from bridge.matrix.listener import cannot_listen
from bridge.matrix.receiver import Receiver
from bridge.model import Transaction
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.sdk.examination import Remark, note, well
from bridge.settings.records import EVERYWHERE, Address, AppserviceSettings, Settings
from bridge.telemetry import Telemetry

_SECONDS = 5.0


@asynccontextmanager
async def answering(settings: AppserviceSettings) -> AsyncIterator[ConfigError | None]:
    """Listen for the ping, unless somebody else does; give the reason if we cannot."""
    nobody = _Nobody()
    receiver = Receiver(settings, nobody, nobody, Telemetry())
    refused = None
    try:
        await receiver.start()
    except ConfigError as error:
        refused = error
    try:
        yield refused
    finally:
        await receiver.stop()


async def examine_listeners(
    settings: Settings, refused: ConfigError | None, *, is_running: bool, in_container: bool
) -> Sequence[Remark]:
    """Say how our listeners are. Raises ``ConfigError`` if a place is taken."""
    listen = settings.appservice.listen
    if is_running:
        if refused is None:
            return [note(f"a Trestle is running, but does not listen at {listen}: its settings "
                         "are older than these, or it is just starting; restart it")]  # fmt: skip
        return [well(f"the running Trestle listens at {listen}"), *await _ask_ready(settings)]
    if refused is not None:
        raise refused
    ops = OpsServer(settings.ops.listen, Telemetry(), ready=_well)
    await ops.start()
    await ops.stop()
    web = _web_places(settings)
    for path, place in web.items():
        await _try_to_listen(place, path)
    found = [well(f"{listen} is free for Trestle")]
    if in_container:
        # What else may be in the way is told once the ping has shown that something is.
        found += [note(hint) for hint in _unseen(settings.appservice, in_container=True)]
        found += [
            note(_only_inside(path, place)) for path, place in web.items()
            if _is_loopback(place.host)
        ]  # fmt: skip
    return found


def _web_places(settings: Settings) -> dict[str, Address]:
    """Where the web listens, as far as it is on."""
    web, found = settings.web, {}
    if web.manager_url is not None:
        found["web.listen"] = web.listen
    if web.public_url is not None:
        found["web.public_listen"] = web.public_listen
    return found


async def _try_to_listen(place: Address, path: str) -> None:
    """Raise ``ConfigError`` if a place is taken."""
    try:
        server = await asyncio.start_server(lambda *_: None, place.host, place.port)
    except OSError as error:
        raise cannot_listen(place, error, path) from error
    server.close()
    await server.wait_closed()


def _only_inside(path: str, place: Address) -> str:
    return (
        f"{path} is {place}, which only this container itself reaches; make it "
        f"0.0.0.0:{place.port}"
    )


def _unseen(settings: AppserviceSettings, *, in_container: bool) -> list[str]:
    """Say so if only this machine reaches the listener, but the homeserver is told to."""
    listen, host = settings.listen, urlsplit(settings.url).hostname or ""
    if not _is_loopback(listen.host) or _is_loopback(host):
        return []
    if in_container:
        return [_only_inside("appservice.listen", listen)]
    return [
        f"appservice.listen is {listen}, which only this machine reaches, and appservice.url "
        f"names {host}; unless a proxy is in between make it 0.0.0.0:{listen.port}"
    ]


def reach_hints(settings: AppserviceSettings, *, in_container: bool) -> list[str]:
    """Say why the homeserver may not come through, likeliest first."""
    listen, parts = settings.listen, urlsplit(settings.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    ours, theirs = _families(listen.host), _families(host)
    hints = _unseen(settings, in_container=in_container)
    if ours and theirs and not ours & theirs:
        hints.append(
            f"appservice.url names {host} and appservice.listen is {listen.host}: one is IPv4, "
            "the other IPv6; name the same address in both"
        )
    elif host == "localhost":
        hints.append("localhost may be ::1 there and 127.0.0.1 here; name the address itself")
    if parts.scheme == "https":
        hints.append(
            "appservice.url is https://, but Trestle itself speaks plain HTTP; write http://, or "
            "put a proxy with a certificate that the homeserver trusts in front"
        )
    if _is_loopback(host) and port != listen.port:
        hints.append(
            f"appservice.url names the port {port}, but appservice.listen {listen.port}; unless "
            "a proxy is in between they must be the same"
        )
    if in_container and _is_loopback(host):
        hints.append(
            f"appservice.url names {host}, which is the homeserver's own container as it sees "
            "it; name this container"
        )
    return hints


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _families(host: str) -> set[int]:
    """The versions of IP that an address belongs to; none if it is a name."""
    if host == "::":
        return {4, 6}
    try:
        return {ip_address(host).version}
    except ValueError:
        return set()


async def _ask_ready(settings: Settings) -> Sequence[Remark]:
    """What the running Trestle says of itself."""
    place = settings.ops.listen
    if place is None or place.port == 0:
        return []
    host = "127.0.0.1" if place.host in EVERYWHERE else place.host
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
            session.get(f"http://{Address(host, place.port)}/ready") as response,
        ):
            said = await response.json(content_type=None)
            reason = str(said["reason"]) if response.status != 200 else ""
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
        return [note(f"the running Trestle does not answer at ops.listen ({place}): its "
                     "settings are older than these, or it is stuck; restart it")]  # fmt: skip
    return [note(f"the running Trestle takes no events: {reason}")] if reason else []


def _well() -> None:
    """Nothing is wrong."""


class _Nobody:
    """Takes no transactions (the homeserver keeps them) and knows nobody."""

    async def accept(self, transaction: Transaction) -> None:
        raise TemporaryFailure("only a doctor is here")

    async def knows_user(self, user_id: str) -> bool:
        return False

    async def knows_alias(self, alias: str) -> bool:
        return False

    def protocol(self, name: str) -> None:
        return None

    async def find_users(self, protocol: str, fields: object) -> list[dict[str, object]]:
        return []

    async def find_locations(self, protocol: str, fields: object) -> list[dict[str, object]]:
        return []

    async def read_user(self, user_id: str) -> list[dict[str, object]]:
        return []

    async def read_location(self, alias: str) -> list[dict[str, object]]:
        return []
