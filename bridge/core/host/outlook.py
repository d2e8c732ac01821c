"""How a login is, in words; apart, so that the command line need not load what runs it."""


def join(because: str, outlook: str) -> str:
    """Say why a login is as it is and since when, in one."""
    return f"{because.rstrip('.')}; {outlook}" if outlook else because
