"""``python -m bridge`` is ``trestle``."""

from bridge.cli import main

if __name__ == "__main__":
    main()
