"""Where on the web people find what they are told of elsewhere."""

from bridge.settings.records import WebSettings

BRIDGED = "/bridged"
"""Where it is, below ``web.public_url``."""


def read_more(settings: WebSettings) -> str:
    """Say where to read the rules by which the bridge is run, and whom to turn to.

    That is the public page, if there is one; else the words themselves, on one line. Empty if the
    settings have none.
    """
    if not settings.policy and not settings.contact:
        return ""
    if settings.public_url is not None:
        return f"The rules, and whom to turn to: {settings.public_url.rstrip('/')}{BRIDGED}"
    policy = " ".join(settings.policy.split())
    contact = settings.contact and f"Whom to turn to: {settings.contact}"
    return " ".join(part for part in (policy, contact) if part)
