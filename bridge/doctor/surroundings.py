"""What this program runs in: its clock, its disk, and whether that is a container."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bridge.model import Clock, SystemClock

_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_GROUPS = ("docker", "containerd", "kubepods", "libpod", "lxc")


def is_container(cgroup: str) -> bool:
    """Whether the text of ``/proc/1/cgroup`` is a container's."""
    return any(group in cgroup for group in _GROUPS)


def in_container() -> bool:
    """Whether this program runs in a container (Docker, Podman, Kubernetes, LXC)."""
    if any(mark.exists() for mark in _MARKS):
        return True
    try:
        return is_container(Path("/proc/1/cgroup").read_text())
    except OSError:
        return False


def free_bytes(folder: Path) -> int:
    """How many bytes we may still write there."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """As they are, unless a test says otherwise."""

    clock: Clock = field(default_factory=SystemClock)
    in_container: bool = field(default_factory=in_container)
    free_bytes: Callable[[Path], int] = free_bytes
