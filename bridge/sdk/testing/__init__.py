"""What an author tests a module with: hosts that remember, and the contract as a test."""

from bridge.sdk.testing.bots import check_bot
from bridge.sdk.testing.connectors import check_connector
from bridge.sdk.testing.hosts import FakeBotHost, FakeHost, running
from bridge.sdk.testing.records import make_login, make_message
from bridge.sdk.testing.rooms import FakeCall, FakeRoom
from bridge.sdk.testing.store import FakeClock, FakeStore

__all__ = [
    "FakeBotHost",
    "FakeCall",
    "FakeClock",
    "FakeHost",
    "FakeRoom",
    "FakeStore",
    "check_bot",
    "check_connector",
    "make_login",
    "make_message",
    "running",
]
