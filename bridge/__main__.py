"""The program: ``trestle``, or ``python -m bridge``."""

import atexit
import gc
import os
import signal
import sys


def main() -> None:
    """Run the command line. Ctrl-C while it is being loaded ends it at once, without a word."""
    _spare_the_collector()
    _fill_standard_places()
    _take_any_character()
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bridge.cli import main as command_line  # noqa: PLC0415 - It takes a while.

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line()


def _spare_the_collector() -> None:
    """Look for cycles seldom, and not once more at the end.

    What is being loaded stays: looking through it again and again was a sixth of the time that
    the shortest commands take.
    """
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)


def _fill_standard_places() -> None:
    """Where standard input, output or errors were closed, have nothing else take their place.

    It would be written to as if it were a screen; and libuv ends the program over a socket there.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - for good


def _take_any_character() -> None:
    """Where a screen or a file has no sign for a character, have its number shown."""
    for stream in (sys.stdout, sys.stderr):
        if stream.errors == "strict" and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
