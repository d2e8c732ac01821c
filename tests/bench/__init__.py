"""``make bench``: Trestle beside mautrix-python, in one run."""
