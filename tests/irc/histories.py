"""Servers that keep a history."""

CAPABILITIES = "batch draft/chathistory message-tags server-time"
ISUPPORT = "NICKLEN=30 CASEMAPPING=rfc1459 CHATHISTORY=3 MSGREFTYPES=msgid,timestamp"


def at(second: int) -> str:
    """The time of a line, as the server tells it."""
    return f"2026-11-25T10:00:{second:02}.000Z"
