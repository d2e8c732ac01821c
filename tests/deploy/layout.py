"""A server as install.md has it: its paths, its user trestle, and root who types.

The paths are those of the pages: each line is run in a mount namespace of its own, where folders
of ours lie over `/etc`, `/var` and `/usr/local/bin`, and what root has is closed to others. That
takes root; who is not asks sudo for it.
"""

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.admin.commands import LIMIT, Outcome
from tests.deploy.blocks import Block, blocks_of
from tests.deploy.tools import TOP

CONFIG = "/etc/trestle/config.yaml"
_CRON = ("env", "-i", "PATH=/usr/bin:/bin", "SHELL=/bin/sh", "HOME=/nonexistent")
"""What cron gives to what it runs, on Debian."""
_COVERED = ("/etc", "/var", "/usr/local/bin")
_PROGRAM = '#!/bin/sh\nPYTHONPATH={top} exec {python} -m bridge "$@"\n'
_FIRST_START = (
    "from pathlib import Path; from tests.admin.commands import make_database; "
    f"make_database(Path('{CONFIG}'))"
)


class Layout:
    """Runs lines as they stand in a page."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._as_root = () if os.geteuid() == 0 else ("sudo", "-n")
        inner = "backups lib local/share lock log spool tmp"
        lines = [f"mkdir -p {self._place(name)}" for name in (*_COVERED, "/kept", "/root")]
        lines += [f"cd {self._place('/var')}", f"mkdir -p {inner}", "chmod 1777 tmp"]
        lines += ["ln -s /run run", f"cp -a /etc/. {self._place('/etc')}"]
        lines += [f"chmod 700 {self._place('/root')}", f"cd {self._place('/usr/local/bin')}"]
        program = _PROGRAM.format(top=TOP, python=sys.executable)
        lines += [f"printf %s {shlex.quote(program)} > trestle", "chmod 755 trestle"]
        self._do("\n".join(lines))

    def install(self) -> None:
        """The user, the settings and the registration as install.md has them, and a first start.

        Nobody outside is asked anything: the network is where nothing answers.
        """
        _, user, settings, *_ = blocks_of(TOP / "docs/how-to/install.md")
        for line in (*user.lines, *settings.lines):
            self.run(line, cwd=TOP)
        self.run(f"sed -i s/irc.libera.chat/127.0.0.1/ {CONFIG}")
        # As the unit's `StateDirectory` does it.
        self.run("chown -R trestle:trestle /var/lib/trestle; chmod 700 /var/lib/trestle")
        words = shlex.join([sys.executable, "-c", _FIRST_START])
        self.run(f"PYTHONPATH={TOP} runuser -u trestle -- {words}")

    def type(self, block: Block) -> str:
        """Run a block's lines, unchanged; its last must end as the page says. Give all said."""
        *first, last = block.lines
        said = [self.run(line).said for line in first]
        return "".join([*said, self.run(last, code=block.code).said])

    def cron(self, line: str) -> str:
        """Run a line of `/etc/cron.d` as cron does. Give what it would mail."""
        *_, user, command = line.split(maxsplit=6)
        words = shlex.join([*_CRON, "/bin/sh", "-c", command])
        return self.run(f"runuser -u {user} -- {words}").said

    def run(self, line: str, *, code: int = 0, cwd: Path | None = None) -> Outcome:
        """Run a line as root, in root's own folder, which nobody else may enter."""
        lines = [*_let_in({Path(sys.base_prefix), Path(sys.prefix), TOP}, self._place("/kept"))]
        lines += [f"mount --bind {self._place(name)} {name}" for name in _COVERED]
        lines += [f"cd {cwd or self._place('/root')}"]
        lines += [f"export PATH=/usr/local/bin:/usr/sbin:/sbin:{os.environ['PATH']}"]
        inner = "\n".join([*lines, f"exec bash -c {shlex.quote(line)}"])
        return self._do(
            f"exec unshare --mount --propagation private bash -ec {shlex.quote(inner)}", code=code
        )

    def close(self) -> None:
        """Delete what root has made."""
        self._do(f"cd {self._folder} && rm -rf etc var usr root kept")

    def _place(self, path: str) -> Path:
        return self._folder / path.lstrip("/")

    def _do(self, line: str, *, code: int = 0) -> Outcome:
        done = subprocess.run(
            [*self._as_root, "bash", "-ec", line], check=False, capture_output=True, text=True,
            timeout=LIMIT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        outcome = Outcome(done.returncode, done.stdout, done.stderr)
        assert outcome.code == code, f"{line.splitlines()[-1]}\n{outcome.said}"
        return outcome


@contextmanager
def laid_out(folder: Path) -> Iterator[Layout]:
    """Have an installation by the pages, in a folder that every user may pass through."""
    layout = Layout(folder)
    try:
        layout.install()
        yield layout
    finally:
        layout.close()


def _let_in(needed: set[Path], kept: Path) -> Iterator[str]:
    """Have what the program consists of where every user may read it, at the path that it has.

    Somebody's own Python is often below a home that nobody else may enter.
    """
    closed: dict[Path, list[Path]] = {}
    for path in sorted(needed):
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                closed.setdefault(folder, []).append(path)
                break
    for folder, inner in closed.items():
        places = {path: kept / path.name for path in inner}
        for path, place in places.items():
            yield from (f"mkdir -p {place}", f"mount --bind {path} {place}")
        yield f"mount -t tmpfs -o mode=711 none {folder}"
        for path, place in places.items():
            yield from (f"mkdir -p {path}", f"mount --move {place} {path}")
