"""An IPv6 address for each Matrix user, out of a prefix that is routed to this machine.

With one address for all, a network can only ban all. The upper half of what the prefix leaves
free stands for the user's homeserver, so that one homeserver can be banned as one block.
"""

import hashlib
from ipaddress import IPv6Address, IPv6Network

from bridge.sdk.ids import UserId

LONGEST_PREFIX = 96
"""Less than 32 free bits would give people the same address too often."""


def address_of(prefix: IPv6Network, user: UserId | None) -> IPv6Address:
    """Return the user's address; None is the relay, which has the first."""
    if user is None:
        return prefix.network_address + 1
    free = 128 - prefix.prefixlen
    block_bits = free // 2
    host_bits = free - block_bits
    block = _number(user.partition(":")[2], block_bits)
    # Never the first of a block: that of block 0 is the relay's, or the router's.
    host = 2 + _number(user, host_bits) % ((1 << host_bits) - 2)
    return prefix.network_address + ((block << host_bits) | host)


def _number(text: str, bits: int) -> int:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest) >> (256 - bits)
