"""Ports that are chosen are chosen once."""

import subprocess
import sys
from contextlib import closing
from socket import create_server

from bridge.demo.processes import free_port

_CHOOSE = """
import sys
from bridge.demo.processes import free_port
print(*[free_port() for _ in range(300)], flush=True)
sys.stdin.read()
"""


def test_no_two_programs_and_no_program_twice_choose_a_port() -> None:
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", _CHOOSE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    chosen = [free_port() for _ in range(300)]
    for program in programs:
        assert program.stdout is not None
        chosen += map(int, program.stdout.readline().split())
    for program in programs:
        program.communicate()
    assert len(set(chosen)) == len(chosen) == 7 * 300


def test_a_port_that_is_preferred_is_given_once() -> None:
    with closing(create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port
    assert free_port(port) != port
