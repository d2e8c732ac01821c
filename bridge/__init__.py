"""Trestle: a Matrix appservice that is an integration manager and a host for bridges and bots."""

__version__ = "0.2.0.dev0"
