"""Where what others are told of is found on the web."""

from bridge.settings.records import WebSettings

BRIDGED = "/bridged"
"""Where it is, below ``web.public_url``."""


def read_more(settings: WebSettings) -> str:
    """Say where people read by which rules the bridge is run, and whom they turn to.

    That is the page, where there is one and it says so; else the words themselves, in a line.
    Empty if the settings have none.
    """
    if not settings.policy and not settings.contact:
        return ""
    if settings.public_url is not None:
        return f"The rules, and whom to turn to: {settings.public_url.rstrip('/')}{BRIDGED}"
    policy = " ".join(settings.policy.split())
    contact = settings.contact and f"Whom to turn to: {settings.contact}"
    return " ".join(part for part in (policy, contact) if part)
