"""The checkers of what is in ``deploy/``: programs of Debian, which ``.ci/servers`` installs."""

import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
DEPLOY = TOP / "deploy"


def run(*words: object, cwd: Path | None = None, code: int = 0, text: str = "") -> str:
    """Run a checker that must end with the code, on a text; give all it said."""
    command = [str(word) for word in words]
    found = shutil.which(command[0])
    assert found, f"{command[0]} is not installed; `.ci/servers` does that"
    done = subprocess.run(
        command, cwd=cwd, check=False, capture_output=True, text=True, timeout=60,
        input=text,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == code, f"{' '.join(command)} ended with {done.returncode}:\n{said}"
    return said
