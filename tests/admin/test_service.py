"""What the service manager hears of us."""

import secrets
import socket
from pathlib import Path

import pytest

from bridge.running.service import tell
from tests.rigs.service_manager import told_to


@pytest.mark.parametrize("kind", ["a file", "a file with @", "a name without one"])
def test_it_hears_each_word(kind: str, folder: Path) -> None:
    name = f"@trestle-{secrets.token_hex(8)}"
    if kind != "a name without one":
        name = str(folder / f"{'@' if '@' in kind else ''}notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, told_to(name):
        listener.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        listener.settimeout(5)
        tell("READY=1", "STATUS=well")
        assert listener.recv(4096) == b"READY=1\nSTATUS=well"


@pytest.mark.parametrize("address", ["", "nonsense", "/nowhere/at/all"])
def test_a_manager_that_does_not_listen_stops_nobody(address: str) -> None:
    with told_to(address):
        tell("READY=1")
    tell("READY=1")  # And with no manager at all.


def test_one_that_reads_too_slowly_holds_up_nobody(folder: Path) -> None:
    name = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, told_to(name):
        listener.bind(name)
        for _ in range(10_000):
            tell("WATCHDOG=1")
