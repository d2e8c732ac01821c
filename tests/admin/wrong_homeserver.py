"""Misconfigurations between us and the homeserver: a real Synapse, unless it says otherwise."""

import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from socket import create_server
from urllib.parse import urlsplit

import pytest

from bridge.demo.processes import free_port
from bridge.demo.synapse import Synapse
from bridge.matrix.registration import random_localpart, random_token
from bridge.model import InstanceRules
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret
from bridge.settings.records import Address, OpsSettings
from tests.admin.estate import HERE, NOWHERE, Bench, Case, Rows, answering, relay
from tests.rigs.certificates import make_certificates
from tests.rigs.scripted_homeserver import Answer, Asked, Rule, refuse, scripted_homeserver
from tests.rigs.trestle import make_modules

HOMESERVER = Rows()
row = HOMESERVER.row

# --- whether there is one ---


@row("homeserver", "cannot be reached: Connection refused", "right, as this machine reaches it?")
async def a_homeserver_that_is_away(bench: Bench) -> AsyncIterator[Case]:
    yield bench.homeserver(url=f"http://127.0.0.1:{free_port()}")


@row("homeserver", "Connection refused", "its log says why", "may have the same id or as_token")
async def a_registration_id_that_is_there_twice(bench: Bench) -> AsyncIterator[Case]:
    folder = Path(tempfile.mkdtemp(prefix="trestle-twice-"))
    case = bench.case(bench.settings())
    again = folder / "again.yaml"
    shutil.copy(case.registration, again)
    synapse = Synapse(folder, server_name="test.example", registrations=(again, again))
    try:
        with pytest.raises(ConfigError, match="Cannot reuse ID"):
            await synapse.start()
        homeserver = replace(case.settings.homeserver, url=synapse.url)
        yield bench.case(replace(case.settings, homeserver=homeserver))
    finally:
        await synapse.kill()
        shutil.rmtree(folder)


@row("homeserver", f"the name {NOWHERE} is not known", "homeserver.url")
async def a_homeserver_with_an_unknown_name(bench: Bench) -> AsyncIterator[Case]:
    yield bench.homeserver(url=f"http://{NOWHERE}")


@row("homeserver", "is no Matrix homeserver; homeserver.url is the base URL of its client API")
async def a_url_with_a_path_too_many(bench: Bench) -> AsyncIterator[Case]:
    yield bench.homeserver(url=f"{bench.estate.synapse.url}/_matrix")


@row("homeserver", "is no Matrix homeserver")
async def another_program_where_the_homeserver_should_be(bench: Bench) -> AsyncIterator[Case]:
    async with answering(404) as url:
        yield bench.homeserver(url=url)


@row("homeserver", "redirects us to https://matrix.example.org", "put the final URL into")
async def a_homeserver_behind_a_redirect(bench: Bench) -> AsyncIterator[Case]:
    there = {"Location": "https://matrix.example.org/_matrix/client/versions"}
    async with answering(301, there) as url:
        yield bench.homeserver(url=url)


@row("homeserver", "there is no TLS behind https://127.0.0.1:", "write that into homeserver.url")
async def https_for_http(bench: Bench) -> AsyncIterator[Case]:
    yield bench.homeserver(url=bench.estate.synapse.url.replace("http:", "https:"))


@row("homeserver", "speaks TLS; write https:// in homeserver.url")
async def http_for_https(bench: Bench) -> AsyncIterator[Case]:
    async with with_tls(bench) as port:
        yield bench.homeserver(url=f"http://127.0.0.1:{port}")


@row("homeserver", "its certificate is not trusted", "update-ca-certificates", "SSL_CERT_FILE")
async def a_certificate_that_is_not_trusted(bench: Bench) -> AsyncIterator[Case]:
    async with with_tls(bench) as port:
        yield bench.homeserver(url=f"https://127.0.0.1:{port}")


@asynccontextmanager
async def with_tls(bench: Bench) -> AsyncIterator[int]:
    """A port that leads to the homeserver by TLS, with a certificate of an unknown issuer."""
    made = make_certificates(bench.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    async with relay(bench.estate.synapse.port, tls=context) as port:
        yield port


# --- whom it takes us for ---

UNKNOWN = "the homeserver does not know our as_token; name registration.yaml in its app_service"


@row("token", UNKNOWN, "restart it", also=("registration",))
async def a_wrong_token(bench: Bench) -> AsyncIterator[Case]:
    yield bench.appservice(as_token=Secret(random_token()))


@row("token", UNKNOWN, "restart it")
async def a_registration_that_was_not_read(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("unread"))


@row("token", "the homeserver's name is test.example, but homeserver.server_name is tset.example",
     "put test.example there")  # fmt: skip
async def a_wrong_server_name(bench: Bench) -> AsyncIterator[Case]:
    yield bench.homeserver(server_name="tset.example", matching=True)


@row("token", "appservice.sender_localpart differs from what it has read")
async def a_wrong_sender_localpart(bench: Bench) -> AsyncIterator[Case]:
    yield bench.appservice(sender_localpart=random_localpart(), matching=True)


# --- what it has read ---


@row("namespaces", "ids like @_narrow_doctor_nobody:test.example are not ours at the homeserver",
     "restart the homeserver")  # fmt: skip
async def namespaces_that_were_not_read(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("narrow"))


@row("namespaces", "aliases like #_narrow_doctor_nothing:test.example are not ours",
     "restart the homeserver")  # fmt: skip
async def aliases_that_were_not_read(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("narrow"))


@row("namespaces", "aliases like #irc_libera_doctor_nothing:test.example are not ours",
     "restart the homeserver", also=("registration", "networks"))  # fmt: skip
async def a_template_of_aliases_that_the_registration_does_not_know(
    bench: Bench,
) -> AsyncIterator[Case]:
    settings, libera = bench.settings(), InstanceId("libera")
    options = {"servers": [{"host": "127.0.0.1", "port": free_port(), "tls": False}]}
    rules = {libera: InstanceRules(alias_template="#irc_{network}_{chat}")}
    yield bench.case(replace(settings, modules=make_modules({libera: ("irc", options)}, rules)))


@row("namespaces", "@wanted:test.example belongs to another appservice", "Narrow its namespaces",
     "appservice.prefix and bot_localpart")  # fmt: skip
async def namespaces_that_another_has(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("wanted"))


# --- its way to us ---


@row("ping", "under another id than appservice.id (renamed)", "put the id of the registration")
async def a_wrong_id(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("renamed"))


@row("ping", "the registration has no url; put in where the homeserver reaches us")
async def a_registration_without_a_url(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("silent"))


@row("ping", "refuses the homeserver (403): the hs_token differs", "compare the two files",
     also=("registration",))  # fmt: skip
async def a_wrong_token_of_the_homeserver(bench: Bench) -> AsyncIterator[Case]:
    yield bench.appservice(hs_tokens=(Secret(random_token()),))


@row("ping", "the homeserver cannot reach us at the registration's url", "Connection refused",
     "unless a proxy is in between they must be the same")  # fmt: skip
async def a_wrong_url_of_ours(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("far"))


@row("ping", "It says: DNSLookupError", "which only this machine reaches",
     "make it 0.0.0.0")  # fmt: skip
async def a_url_of_ours_with_an_unknown_name(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("nameless"))


@row("listener", "which only this container itself reaches; make it 0.0.0.0:", level="note",
     also=("ping",))  # fmt: skip
async def a_listener_that_nobody_outside_the_container_reaches(
    bench: Bench,
) -> AsyncIterator[Case]:
    inside = replace(HERE, in_container=True)
    yield bench.case(bench.settings("nameless"), surroundings=inside)


@row("ping", "appservice.url names ::1 and appservice.listen is 127.0.0.1",
     "name the same address in both")  # fmt: skip
async def ipv6_here_and_ipv4_there(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("six"))


@row("ping", "appservice.url is https://, but Trestle itself speaks plain HTTP; write http://")
async def https_for_http_on_our_side(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings("tls"))


@row("ping", "redirects the homeserver", "put the final URL into appservice.url")
async def a_proxy_that_redirects(bench: Bench) -> AsyncIterator[Case]:
    async with in_our_place(bench, 301):
        yield bench.case(bench.settings("far"))


@row("ping", "a proxy answers at the registration's url and does not reach Trestle", "502")
async def a_proxy_with_nobody_behind_it(bench: Bench) -> AsyncIterator[Case]:
    async with in_our_place(bench, 502):
        yield bench.case(bench.settings("far"))


@row("ping", "does not know the path (404)", "does not pass on /_matrix/app as it is")
async def another_program_in_our_place(bench: Bench) -> AsyncIterator[Case]:
    async with in_our_place(bench, 404):
        yield bench.case(bench.settings("far"))


@row("ping", "refuses the homeserver (401)", "another appservice listens there")
async def another_appservice_in_our_place(bench: Bench) -> AsyncIterator[Case]:
    async with in_our_place(bench, 401):
        yield bench.case(bench.settings("far"))


@asynccontextmanager
async def in_our_place(bench: Bench, status: int) -> AsyncIterator[None]:
    """Somebody else at the url of the far installation's registration."""
    port = urlsplit(bench.settings("far").appservice.url).port
    assert port is not None
    async with answering(status, {"Location": "http://127.0.0.1:9/"}, port=port):
        yield


# --- our listeners ---


@row("listener", "appservice.listen: ", "is taken by another program", "choose another port")
async def a_port_that_is_taken(bench: Bench) -> AsyncIterator[Case]:
    listen = bench.settings().appservice.listen
    with closing(create_server(listen)):
        yield bench.case(bench.settings())


@row("listener", "ops.listen: ", "is taken by another program", "choose another port")
async def a_port_of_ops_that_is_taken(bench: Bench) -> AsyncIterator[Case]:
    with closing(create_server(("127.0.0.1", 0))) as server:
        place = Address("127.0.0.1", server.getsockname()[1])
        yield bench.case(replace(bench.settings(), ops=OpsSettings(listen=place)))


@row("listener", "192.0.2.1 is no address of this machine; 127.0.0.1 and 0.0.0.0 are")
async def an_address_of_another_machine(bench: Bench) -> AsyncIterator[Case]:
    yield bench.appservice(listen=Address("192.0.2.1", 29333))


# --- what no Synapse can be made to say: a homeserver that says what it is told ---


@asynccontextmanager
async def told(bench: Bench, *rules: Rule) -> AsyncIterator[Case]:
    """The good installation beside a scripted homeserver."""
    settings = bench.settings()
    sender = f"@{settings.appservice.sender_localpart}:{settings.homeserver.server_name}"

    def usual(asked: Asked) -> Answer | None:
        if asked.path.endswith("/versions"):
            return Answer(content={"versions": ["v1.11", "v1.14"]})
        if "auth_metadata" in asked.path:
            return refuse(404, "M_UNRECOGNIZED")
        if asked.parts == ("account", "whoami") and not asked.user:
            return Answer(content={"user_id": sender})
        return None

    async with scripted_homeserver() as homeserver:
        homeserver.rules += [*rules, usual]
        changed = replace(settings.homeserver, url=homeserver.url)
        yield bench.case(replace(settings, homeserver=changed))


@row("ping", "the homeserver's request to us took too long")
async def a_way_to_us_that_leads_nowhere(bench: Bench) -> AsyncIterator[Case]:
    def slow(asked: Asked) -> Answer | None:
        return refuse(504, "M_CONNECTION_TIMEOUT") if asked.parts[-1:] == ("ping",) else None

    async with told(bench, slow) as case:
        yield case


@row("token", "limits how fast we may ask", "rate_limited: true", "`trestle registration` writes")
async def a_homeserver_that_limits_us(bench: Bench) -> AsyncIterator[Case]:
    def busy(asked: Asked) -> Answer | None:
        if asked.parts == ("account", "whoami"):
            return refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=60_000)
        return None

    async with told(bench, busy) as case:
        yield case


@row("clocks", "the clock of the homeserver is 3.0 hours behind ours", "timedatectl set-ntp true")
async def a_homeserver_whose_clock_is_off(bench: Bench) -> AsyncIterator[Case]:
    def late(asked: Asked) -> Answer | None:
        if not asked.path.endswith("/versions"):
            return None
        then = HERE.clock.now() - timedelta(hours=3)
        return Answer(content={"versions": ["v1.14"]}, headers={"Date": format_datetime(then)})

    async with told(bench, late) as case:
        yield case


@row("device_id", "lacks device_id masquerading (MSC4326)", "Synapse from 1.141", level="note")
async def a_homeserver_that_forgets_devices(bench: Bench) -> AsyncIterator[Case]:
    def forgets(asked: Asked) -> Answer | None:
        if asked.parts == ("account", "whoami") and "device_id" in asked.query:
            return Answer(content={"user_id": asked.user})
        return None

    async with told(bench, forgets) as case:
        yield case


@row("accounts", "an authentication service (https://auth.example.org/)", level="note")
async def an_authentication_service(bench: Bench) -> AsyncIterator[Case]:
    def issuer(asked: Asked) -> Answer | None:
        if asked.path.endswith("/v1/auth_metadata"):
            return Answer(content={"issuer": "https://auth.example.org/"})
        return None

    async with told(bench, issuer) as case:
        yield case


@row("double_puppets", "does not name its people", "`trestle registration` writes it anew")
async def people_whom_the_registration_does_not_name(bench: Bench) -> AsyncIterator[Case]:
    yield bench.appservice(matching=True, double_puppets=True)


@row("double_puppets", "names all its people", "appservice.double_puppets: true", level="note")
async def people_whom_it_names_unasked(bench: Bench) -> AsyncIterator[Case]:
    def anybody(asked: Asked) -> Answer | None:
        if asked.parts == ("account", "whoami") and asked.user:
            return Answer(content={"user_id": asked.user})
        return None

    async with told(bench, anybody) as case:
        yield case


@row("ephemeral", "older than Matrix 1.13", "de.sorunome.msc2409.push_ephemeral", level="note")
async def a_homeserver_that_knows_an_old_name(bench: Bench) -> AsyncIterator[Case]:
    def old(asked: Asked) -> Answer | None:
        if asked.path.endswith("/versions"):
            return Answer(content={"versions": ["r0.6.1", "v1.11"]})
        return None

    async with told(bench, old) as case:
        yield case


@row("ping", "this homeserver has no ping (Matrix 1.7)", level="note")
async def a_homeserver_without_a_ping(bench: Bench) -> AsyncIterator[Case]:
    def never_heard(asked: Asked) -> Answer | None:
        return refuse(404, "M_UNRECOGNIZED") if asked.parts[-1:] == ("ping",) else None

    async with told(bench, never_heard) as case:
        yield case
