"""Files and folders of the state directory: private, and on disk when we say so."""

import contextlib
import os
from pathlib import Path


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

    With ``state_dir`` it is given to that directory's owner (:func:`give_to_owner`).
    """
    new = path.with_name(path.name + ".new")
    # No link: as root we may be in a folder of another user's, who must not lead us elsewhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(new, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if state_dir is not None:
            give_to_owner(descriptor, state_dir)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def write_over(path: Path, text: str) -> None:
    """Write a file that is there and belongs to another user, who must not lead us elsewhere."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_TRUNC)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def give_to_owner(descriptor: int, state_dir: Path) -> None:
    """Give what root has made to the owner of the state, who is to read it.

    Where files cannot be given away, on some foreign disks, it stays as it is.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            owner = state_dir.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Return when the folder's entries are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
