"""How a login is, in words; apart, so that the command line need not load what runs it."""


def join(because: str, outlook: str) -> str:
    """Say why a login is as it is and since when, in one."""
    return f"{because.rstrip('.')}; {outlook}" if outlook else because


def spell(seconds: float) -> str:
    """Say a time in its largest unit of which there are two: ``90 s``, ``2 min``, ``30 h``."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
