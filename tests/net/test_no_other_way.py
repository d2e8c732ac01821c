"""No other part of the program opens connections, but to places that the settings name."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

DOORS = {
    "bridge/doors/control.py": "our own socket in the state directory",
    "bridge/demo": "the servers of the demo, on this machine",
    "bridge/doctor/homeserver.py": "the homeserver, at homeserver.url",
    "bridge/doctor/listeners.py": "our own listeners",
    "bridge/matrix/client.py": "no connection: it tells errors apart",
    "bridge/matrix/connections.py": "the homeserver, at homeserver.url",
    "bridge/matrix/downloads.py": "the homeserver, at homeserver.url",
    "bridge/matrix/listener.py": "no connection: it makes the socket that it listens on",
    "bridge/net/fetcher.py": "what a user named: this is the guard",
    "bridge/net/openid.py": "homeservers, at URLs of the settings",
    "bridge/net/reach.py": "no connection: it asks whether an address is ours",
    "bridge/networks/irc/connections/dial.py": "IRC servers, at modules.<name>.servers",
    "bridge/networks/irc/connections/reader.py": "no connection: it reads what is left of one",
    "bridge/running/service.py": "the service manager's socket on this machine",
    "bridge/prove": "the servers of a proof, on this machine",
    "bridge/storage": "the database, at database.url, and its sockets",
}
"""What may open connections, and to where."""

OPENERS = {
    "ClientSession", "TCPConnector", "UnixConnector", "open_connection", "open_unix_connection",
    "create_connection", "create_unix_connection", "create_datagram_endpoint", "sock_connect",
    "urlopen", "HTTPConnection", "HTTPSConnection", "ws_connect", "getaddrinfo", "gethostbyname",
}  # fmt: skip
CLIENTS = {
    "aiodns", "asyncpg", "ftplib", "http.client", "httpx", "mautrix", "paramiko", "poplib",
    "pycurl", "requests", "smtplib", "socket", "telnetlib", "urllib.request", "urllib3",
    "websockets", "xmlrpc.client",
}  # fmt: skip


def ways_out(tree: ast.AST) -> Iterator[str]:
    """The names by which a file could open a connection."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in OPENERS:
            yield node.attr
        elif isinstance(node, ast.Name) and node.id in OPENERS:
            yield node.id
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in CLIENTS)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            yield from names & CLIENTS
            yield from (alias.name for alias in node.names if alias.name in OPENERS)


def is_a_door(name: str) -> bool:
    return any(name == door or name.startswith(f"{door}/") for door in DOORS)


@cache
def files() -> dict[str, ast.Module]:
    return {
        str(file.relative_to(TOP)): ast.parse(file.read_text())
        for file in sorted(TOP.glob("bridge/**/*.py"))
    }


def test_only_the_named_files_open_connections() -> None:
    found = {name: sorted(set(ways_out(tree))) for name, tree in files().items()}
    assert {name: ways for name, ways in found.items() if ways and not is_a_door(name)} == {}


def test_every_named_file_does() -> None:
    opening = {name for name, tree in files().items() if list(ways_out(tree))}
    for door in DOORS:
        assert any(name == door or name.startswith(f"{door}/") for name in opening), door


@pytest.mark.parametrize(
    "source",
    [
        "import aiohttp\naiohttp.ClientSession()",
        "from aiohttp import ClientSession as Session",
        "import asyncio\nasync def f(): await asyncio.open_connection('x', 1)",
        "async def f(loop): await loop.create_connection(None, 'x', 1)",
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "import socket",
        "from socket import create_connection",
        "import httpx",
        "from http.client import HTTPConnection",
        "from http import client",
    ],
)
def test_a_way_out_is_found_however_it_is_written(source: str) -> None:
    assert list(ways_out(ast.parse(source)))
