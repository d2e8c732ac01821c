"""Each user's own address (IPv6): which it is, connections from it, and servers that are told."""

import asyncio
import os
import shlex
import sys
from ipaddress import IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from bridge.demo.matrix_user import PATIENCE
from bridge.networks.irc.names.addresses import address_of
from bridge.networks.irc.protocol.handshake import Gateway
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from tests.irc.handshakes import begin, identity
from tests.irc.stage import Network, message, running
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.scale import examples

PREFIX = IPv6Network("2001:db8:1:2::/64")
USERS = st.builds(
    lambda name, server: UserId(f"@{name}:{server}"),
    st.text(min_size=1, max_size=20),
    st.sampled_from(["a.example", "b.example", "c.example:8448"]),
)


@examples(200)
@given(st.lists(USERS, unique=True, max_size=30), st.integers(16, 96))
def test_each_user_has_an_address_and_each_homeserver_a_block(
    users: list[UserId], length: int
) -> None:
    prefix = IPv6Network(f"2001:db8:1:2::/{length}", strict=False)
    block_length = length + (128 - length) // 2
    blocks: dict[str, set[IPv6Network]] = {}
    for user in users:
        address = address_of(prefix, user)
        assert address in prefix
        assert address == address_of(prefix, user)
        assert address not in {prefix.network_address, address_of(prefix, None)}
        block = IPv6Network((int(address), block_length), strict=False)
        blocks.setdefault(user.partition(":")[2], set()).add(block)
    assert all(len(found) == 1 for found in blocks.values())


def test_ten_thousand_users_share_no_address() -> None:
    users = [UserId(f"@user{number}:example.org") for number in range(10_000)]
    assert len({address_of(PREFIX, user) for user in users}) == 10_000


def test_a_gateway_is_named_before_all_else() -> None:
    gateway = Gateway(password=Secret("pw"), name="trestle", address=PREFIX[5])
    _, first = begin(identity(gateway=gateway, password=Secret("door")))
    assert first[0] == "WEBIRC pw trestle 2001:db8:1:2::5 2001:db8:1:2::5"
    loop = Gateway(password=Secret("pw"), name="trestle", address=IPv6Network("::/96")[1])
    assert loop.line().params[-1] == "0::1"


async def test_a_server_that_trusts_us_shows_each_user_with_an_own_address() -> None:
    async with run_inspircd(webirc="sesame") as server:
        network = Network(
            server.port, webirc={"password": "sesame"}, ipv6_prefix="2001:db8:1:2::/64"
        )
        alice, _ = network.puppet("Alice_W")
        expected = address_of(PREFIX, UserId("@alice_w:example.org"))
        async with irc_user(server.port, "watch") as watch, running(alice):
            await watch.join("#web")
            await alice.send(message("#web", "hello"))
            assert f"@{expected}" in (await watch.expect("hello")).partition(" PRIVMSG")[0]


FROM_OWN_ADDRESSES = """
import asyncio, sys
from tests.irc.stage import Network, running, speaking
from tests.rigs.scripted_irc import scripted_server

async def main():
    async with scripted_server("::1") as server:
        place = {"host": "::1", "port": server.port, "tls": False}
        network = Network(0, servers=[place], ipv6_prefix=sys.argv[1], connect_seconds=5)
        for name in ("Alice", "Bob"):
            async with speaking(server, network, name) as (_, _, peer, _):
                print(peer.address[0])
        stray = Network(0, servers=[place], ipv6_prefix="2001:db8:9::/64", connect_seconds=1)
        relay, _ = stray.relay()
        async with running(relay) as run:
            print(await run.wait_for_error())

asyncio.run(main())
"""


async def test_each_user_connects_from_an_own_address_of_a_prefix_that_is_routed_to_us() -> None:
    # In a network of its own, where the prefix is routed as docs/reference/irc.md says.
    lines = ["ip link set lo up", f"ip -6 route add local {PREFIX} dev lo"]
    lines.append(shlex.join(["exec", sys.executable, "-c", FROM_OWN_ADDRESSES, str(PREFIX)]))
    as_root = () if os.geteuid() == 0 else ("sudo", "-nE")
    process = await asyncio.create_subprocess_exec(
        *as_root, "unshare", "--net", "sh", "-ec", "\n".join(lines),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    alices, bobs, refused = said.decode().splitlines()
    assert [alices, bobs] == [
        str(address_of(PREFIX, UserId(f"@{name}:example.org"))) for name in ("alice", "bob")
    ]
    assert "Is ipv6_prefix routed to this machine?" in refused
    assert str(address_of(IPv6Network("2001:db8:9::/64"), None)) not in refused
