"""Lines of a server, without one."""

from bridge.networks.irc.wire import Incoming, parse


def incoming(text: str) -> Incoming:
    """A line as it is read."""
    read = parse(text.encode())
    assert read is not None, text
    return read
