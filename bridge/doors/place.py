"""Where the socket of the running program lies.

Both ends need to know, and neither loads the other for it.
"""

from pathlib import Path


def socket_of(state_dir: Path) -> Path:
    """Its path in the state directory."""
    return state_dir / "control"
