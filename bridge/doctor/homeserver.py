"""The homeserver: whether it is one, knows us, and what it can."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bridge.doctor.clocks import difference_by_header
from bridge.matrix.client import PING_ERRORS, HomeserverClient, MatrixError, path
from bridge.matrix.connections import NoAnswerError
from bridge.model import Clock
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.sdk.examination import Remark, bad, note, well
from bridge.sdk.ids import UserId
from bridge.settings.records import Settings

_SECONDS = 5.0

RATE_LIMITED = (
    "the homeserver limits how fast we may ask: the registration that it has read says "
    "rate_limited: true. `trestle registration` writes one that says false; then restart the "
    "homeserver"
)


@dataclass(frozen=True, slots=True)
class Greeting:
    """How it answers somebody without a token."""

    status: int
    difference: float | None
    """Seconds by which its clock is ahead of ours, if it told the time."""
    location: str
    """Where it sends us instead."""


async def greet(url: str, clock: Clock) -> Greeting | None:
    """Ask for the versions without a token; None if nobody answers."""
    before = clock.now()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
            session.get(f"{url}{path('versions')}", allow_redirects=False) as response,
        ):
            date = response.headers.get("Date")
            location = response.headers.get("Location", "")
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    return Greeting(status, difference_by_header(date, before, clock.now()), location)


async def examine_versions(
    client: HomeserverClient, settings: Settings, greeting: Greeting | None, clock: Clock
) -> tuple[str, Sequence[str]]:
    """Say that a homeserver answers, with its versions; none of those if it refuses our token.

    Raises ``ConfigError`` if there is none.
    """
    url = settings.homeserver.url
    if greeting is not None and 300 <= greeting.status < 400:
        target = greeting.location.partition("/_matrix/")[0] or "another place"
        raise ConfigError(
            f"what answers at {url} redirects us to {target}, and no token is sent along; put the "
            "final URL into homeserver.url"
        )
    plain = url.replace("https://", "http://", 1)
    if greeting is None and plain != url and await greet(plain, clock) is not None:
        raise ConfigError(
            f"there is no TLS behind {url}: {plain} answers; write that into homeserver.url, or "
            "the port that speaks TLS"
        )
    try:
        reply = await client.versions()
    except (TemporaryFailure, MatrixError) as error:
        if isinstance(error, MatrixError) and error.errcode == "M_UNKNOWN_TOKEN":
            return "the homeserver answers", ()  # And that it does not know us comes next.
        refusal = error if isinstance(error, MatrixError) else error.__cause__
        if isinstance(refusal, MatrixError) and refusal.status == 404:
            raise _no_homeserver(url) from error
        raise ConfigError(await _why_not(error, url)) from error
    versions = reply.get("versions")
    if not isinstance(versions, list) or not versions:
        raise _no_homeserver(url)
    names = [str(name) for name in versions]
    return f"the homeserver answers (Matrix {names[-1]})", names


async def _why_not(error: Exception, url: str) -> str:
    """Why the homeserver was not reached, and the way out."""
    cause = error.__cause__
    match cause:
        case ssl.SSLCertVerificationError():
            return (
                f"{error}. If the issuer is your own, have this machine trust it "
                "(update-ca-certificates), or name its file in the environment: SSL_CERT_FILE"
            )
        case ssl.SSLError():
            return f"{error} (homeserver.url: {url})"
    if url.startswith("http://") and await _speaks_tls(url):
        return f"what answers at {url} speaks TLS; write https:// in homeserver.url"
    if "patience" in str(error):
        return RATE_LIMITED
    if isinstance(cause, OSError) and not isinstance(cause, TimeoutError | NoAnswerError):
        return (
            f"{error}. Is homeserver.url ({url}) right, as this machine reaches it? If the "
            "homeserver no longer starts since it was given the registration, its log says why: "
            "no two of app_service_config_files may have the same id or as_token, and it must be "
            "able to read each"
        )
    return f"{error}. Is homeserver.url ({url}) right, as this machine reaches it?"


async def _speaks_tls(url: str) -> bool:
    parts = urlsplit(url)
    context = ssl.create_default_context()
    # Nothing is said to whoever answers, so anybody may.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 80, ssl=context
            )
    except (OSError, TimeoutError, ValueError):
        return False
    writer.transport.abort()
    return True


def _no_homeserver(url: str) -> ConfigError:
    return ConfigError(
        f"what answers at {url} is no Matrix homeserver; homeserver.url is the base URL of its "
        "client API"
    )


async def examine_token(client: HomeserverClient, settings: Settings) -> Sequence[Remark]:
    """See who the homeserver thinks we are."""
    try:
        reply = await client.whoami()
    except MatrixError as error:
        return [bad(PING_ERRORS.get(error.errcode, str(error)))]
    except TemporaryFailure as error:
        return [bad(RATE_LIMITED if "patience" in str(error) else str(error))]
    appservice, server = settings.appservice, settings.homeserver.server_name
    wanted = f"@{appservice.sender_localpart}:{server}"
    told = str(reply.get("user_id"))
    if told == wanted:
        return [well("the homeserver knows our token")]
    localpart, _, theirs = told.removeprefix("@").partition(":")
    if localpart == appservice.sender_localpart:
        return [
            bad(
                f"the homeserver's name is {theirs}, but homeserver.server_name is {server}; put "
                f"{theirs} there, write the registration anew (`trestle registration`), and "
                "restart the homeserver"
            )
        ]
    return [
        bad(
            f"the homeserver takes us for {told}, not {wanted}: appservice.sender_localpart "
            "differs from what it has read; put that right, or write the registration anew and "
            "restart the homeserver"
        )
    ]


async def examine_accounts(client: HomeserverClient) -> Remark:
    """See whether an authentication service keeps the accounts (MSC2965, in Matrix 1.15)."""
    places = (path("v1", "auth_metadata"), path("unstable", "org.matrix.msc2965", "auth_metadata"))
    for place in places:
        try:
            reply: dict[str, Any] = await client.request("GET", place, timeout=_SECONDS)
        except (MatrixError, TemporaryFailure):
            continue
        return note(
            f"accounts are kept by an authentication service ({reply.get('issuer')}). Trestle's "
            "own users need nothing from it: they are made through the registration, without a "
            "login. People cannot give Trestle a password, and an access token of theirs ends "
            "when it expires"
        )
    return well("the homeserver keeps the accounts itself")


async def examine_device(client: HomeserverClient, bot: UserId) -> Remark:
    """See whether it remembers our transaction ids over its restart (MSC4326)."""
    try:
        reply = await client.whoami(bot, "TRESTLEDOCTOR")
    except MatrixError as error:
        if error.errcode.endswith("M_UNKNOWN_DEVICE"):  # With the proposal's name before it.
            return well("device_id masquerading works: nothing is doubled by its restart")
        if error.errcode in {"M_FORBIDDEN", "M_UNKNOWN"}:
            return well("the first start will show it: the bot has no account yet")
        raise
    if reply.get("device_id") == "TRESTLEDOCTOR":
        return well("device_id masquerading works: nothing is doubled by its restart")
    return note(
        "this homeserver lacks device_id masquerading (MSC4326): a message may be there twice "
        "after its restart. Newer ones have it, Synapse from 1.141 on"
    )
