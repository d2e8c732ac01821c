"""No address that a user named leads inside: however it is spelled, looked up or redirected to."""

import asyncio
import contextlib
import ipaddress
import statistics
import time
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
import pytest_asyncio

from bridge.demo.processes import free_port
from bridge.net.fetcher import GuardedFetcher
from bridge.net.reach import Allowed, Reach, is_ours, is_outside
from bridge.sdk.errors import ConfigError, DeliveryError
from bridge.settings.records import Address
from tests.net.addresses import HERE, INSIDE, URLS
from tests.net.canary import Canary, Names, canary
from tests.net.server import plain, scripted

SILENT = "127.0.0.9"
"""An address that may be connected to, and at which nobody listens."""


@pytest_asyncio.fixture
async def bird() -> AsyncIterator[Canary]:
    async with canary() as made:
        yield made


def guarded(*ports: int, names: Names | None = None, allow: Sequence[str] = ()) -> GuardedFetcher:
    """A fetcher whose ports would let a canary be reached, were its address not refused."""
    return GuardedFetcher(Reach(ports=ports, allow=allow), resolver=names)


async def refusals(fetcher: GuardedFetcher, urls: Sequence[str]) -> list[str]:
    """The sentences with which the addresses are refused."""
    said = []
    for url in urls:
        with pytest.raises(DeliveryError) as refused:
            await fetcher.fetch(url, within=5)
        said.append(str(refused.value))
    return said


def is_number(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


NUMBERS = [text for text in (host.strip("[]") for host in (*HERE, *INSIDE)) if is_number(text)]
"""Those of the list that a look-up may give as its answer."""


# --- over 120 addresses ---


async def test_the_spellings_lead_to_the_canary_where_nobody_guards(bird: Canary) -> None:
    reached = 0
    async with aiohttp.ClientSession() as session:
        for host in HERE:
            with contextlib.suppress(aiohttp.ClientError, ValueError, OSError):
                async with session.get(f"http://{host}:{bird.port}/") as response:
                    reached += await response.text() == "canary"
    assert reached == bird.visits >= 20


async def test_no_address_of_the_list_is_reached_directly(bird: Canary) -> None:
    urls = [url.format(p=bird.port) for url in URLS]
    assert len(set(urls)) >= 120
    await refusals(guarded(bird.port), urls)
    assert bird.visits == 0


async def test_no_address_of_the_list_is_reached_by_a_redirect(bird: Canary) -> None:
    targets = [url.format(p=bird.port) for url in URLS]

    async def redirect(head: str, writer: asyncio.StreamWriter) -> None:
        number = head.split()[1][1:]
        # What has no scheme is a path of this server, and leads in a circle.
        target = targets[int(number)] if number.isdigit() else "/again"
        writer.write(plain(b"", "302 Found", Location=target))

    async with scripted(redirect) as server:
        fetcher = guarded(bird.port, allow=[f"127.0.0.1:{server.port}"])
        start = f"http://127.0.0.1:{server.port}"
        await refusals(fetcher, [f"{start}/{number}" for number in range(len(targets))])
        assert len(server.heads) >= len(targets)
    assert bird.visits == 0


async def test_no_address_of_the_list_is_reached_behind_a_name_that_also_means_another(
    bird: Canary,
) -> None:
    for number in NUMBERS:
        for answer in ([SILENT, number], [number, SILENT]):
            names = Names({"mixed.example": [answer]})
            fetcher = guarded(bird.port, names=names, allow=[f"{SILENT}:{bird.port}"])
            await refusals(fetcher, [f"http://mixed.example:{bird.port}/"])
            assert names.asked
    assert bird.visits == 0


async def test_no_address_of_the_list_is_reached_behind_a_name_that_changes_its_mind(
    bird: Canary,
) -> None:
    async def redirect(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b"", "302 Found", Location=f"http://moving.example:{bird.port}/"))

    async with scripted(redirect) as server:
        allow = [f"127.0.0.1:{server.port}", f"{SILENT}:{bird.port}"]
        for number in NUMBERS:
            names = Names({"moving.example": [["127.0.0.1"], [number], [SILENT], [number]]})
            fetcher = guarded(bird.port, names=names, allow=allow)
            # Good when it is looked up first, and another at the next look of the same fetch.
            await refusals(fetcher, [f"http://moving.example:{server.port}/"])
            await refusals(fetcher, [f"http://moving.example:{bird.port}/"] * 2)
            assert names.asked == 4
        assert len(server.heads) == len(NUMBERS)
    assert bird.visits == 0


async def test_what_is_open_what_is_closed_and_what_is_silent_look_alike(bird: Canary) -> None:
    closed = free_port()
    fetcher = guarded(bird.port, closed)
    times: dict[str, list[float]] = {}
    said = set()
    for _ in range(60):
        for place in (f"127.0.0.1:{bird.port}", f"127.0.0.1:{closed}", f"10.0.0.1:{closed}"):
            began = time.perf_counter()
            sentence = (await refusals(fetcher, [f"http://{place}/"]))[0]
            times.setdefault(place, []).append(time.perf_counter() - began)
            said.add(sentence.replace(place.partition(":")[0], "it"))
    assert said == {"it is not a place that may be reached from here"}
    medians = [statistics.median(one) for one in times.values()]
    assert max(medians) - min(medians) < 0.01
    assert bird.visits == 0


# --- ports, hosts of the admin's own, our own listeners ---


async def test_only_the_ports_of_the_web_are_open(bird: Canary) -> None:
    fetcher = GuardedFetcher(Reach(allow=["127.0.0.1"]))
    for port in (bird.port, 22, 25, 5432, 6379, 8008, 65535):
        assert await refusals(fetcher, [f"http://127.0.0.1:{port}/"]) == [
            "127.0.0.1 is not a place that may be reached from here"
        ]
    for port in (0, 65536, -1):
        await refusals(fetcher, [f"http://127.0.0.1:{port}/"])
    assert bird.visits == 0


async def test_a_host_of_the_admins_own_is_reached_when_the_settings_name_it(
    bird: Canary,
) -> None:
    names = Names({"feeds.lan": [["127.0.0.1"]], "other.lan": [["127.0.0.1"]]})
    for allow in ("127.0.0.1", "127.0.0.0/8", f"127.0.0.1:{bird.port}"):
        fetcher = guarded(bird.port, names=names, allow=[allow])
        assert (await fetcher.fetch(f"http://other.lan:{bird.port}/")).body == b"canary"
    for allow in ("feeds.lan", "FEEDS.lan.", f"feeds.lan:{bird.port}"):
        fetcher = guarded(bird.port, names=names, allow=[allow])
        assert (await fetcher.fetch(f"http://feeds.lan:{bird.port}/")).body == b"canary"
        await refusals(fetcher, [f"http://other.lan:{bird.port}/"])
        await refusals(fetcher, [f"http://127.0.0.1:{bird.port}/"])
    assert bird.visits == 6


async def test_a_port_that_is_open_at_one_host_is_open_at_no_other(bird: Canary) -> None:
    fetcher = GuardedFetcher(Reach(allow=[f"{SILENT}:{bird.port}", "127.0.0.1"]))
    await refusals(fetcher, [f"http://127.0.0.1:{bird.port}/"])
    assert bird.visits == 0


async def test_where_we_listen_ourselves_nobody_comes_through_us(bird: Canary) -> None:
    listeners: list[Address] = []
    reach = Reach(ports=[bird.port], allow=["127.0.0.0/8"], own_listeners=lambda: listeners)
    fetcher = GuardedFetcher(reach)
    assert (await fetcher.fetch(f"http://127.0.0.1:{bird.port}/")).body == b"canary"
    for host in ("127.0.0.1", "0.0.0.0", "::"):  # noqa: S104 - as an admin may write it
        listeners[:] = [Address(host, bird.port)]
        await refusals(fetcher, [f"http://127.0.0.1:{bird.port}/"])
    assert bird.visits == 1


@pytest.mark.parametrize(
    "text",
    ["", "a b", "host:", "host:0", "host:65536", "http://host", "10.0.0.0/33", "*.lan", "[x]"],
)
def test_what_is_no_host_is_refused_in_the_settings(text: str) -> None:
    with pytest.raises(ConfigError, match="no host"):
        Allowed.parse(text)


# --- addresses ---


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700::1111"])
def test_what_is_outside_may_be_reached(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert is_outside(address)
    assert Reach().may_connect("outside.example", address, 443)
    assert not Reach().may_connect("outside.example", address, 8443)


def test_the_numbers_of_the_list_are_inside() -> None:
    assert [text for text in NUMBERS if is_outside(ipaddress.ip_address(text))] == []
    assert len(NUMBERS) > 60


def test_an_address_of_this_machine_is_known() -> None:
    assert is_ours(ipaddress.ip_address("127.0.0.1"))
    assert not is_ours(ipaddress.ip_address("192.0.2.1"))
    assert not is_ours(ipaddress.ip_address("1.1.1.1"))
