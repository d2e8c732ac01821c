"""The program: ``trestle``, or ``python -m bridge``."""

import signal


def main() -> None:
    """Run the command line. Ctrl-C while it is being loaded ends it at once, without a word."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bridge.cli import main as command_line  # noqa: PLC0415 - It takes a while.

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line()


if __name__ == "__main__":
    main()
