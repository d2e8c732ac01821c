"""The local stack of ``trestle demo``."""
