"""Files and folders of the state directory: private, and on disk when we say so."""

import contextlib
import os
from pathlib import Path

from bridge.wholefile import sync_folder, write_whole


def make_state_dir(state_dir: Path) -> None:
    """Have the state directory. Others may pass through it, to what is theirs, and see nothing.

    The embedded database is another user than we are when we are root. Folders that are there
    keep their modes.
    """
    if state_dir.exists():
        return
    make_state_dir(state_dir.parent)
    state_dir.mkdir(exist_ok=True)
    state_dir.chmod(0o711)  # Whatever the umask says.


def make_folder(folder: Path) -> None:
    """Have a folder that only we may enter, and be sure that a power cut leaves it there."""
    if folder.exists():
        return
    if not folder.parent.exists():
        make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def write_private(path: Path, data: bytes, *, state_dir: Path | None = None) -> None:
    """Write a file that only we may read, whole or not at all, and on disk when it returns.

    It is for folders that nobody else keeps anything in. With ``state_dir`` it is given to that
    directory's owner (:func:`give_to_owner`).
    """
    owner = None if state_dir is None else _owner(state_dir)
    write_whole(path, data, owner=owner, own_folder=True)


def write_over(path: Path, text: str) -> None:
    """Write a file that is there and belongs to another user, who must not lead us elsewhere."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_TRUNC)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def give_to_owner(descriptor: int, state_dir: Path) -> None:
    """Give what root has made to the owner of the state, who is to read it.

    Where files cannot be given away, on some foreign disks, it stays as it is.
    """
    owner = _owner(state_dir)
    if owner is not None:
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _owner(state_dir: Path) -> os.stat_result | None:
    """Whose what root makes there is to be; None if we are not root, or nothing is there."""
    if os.geteuid() != 0 or not state_dir.exists():
        return None
    return state_dir.stat()
