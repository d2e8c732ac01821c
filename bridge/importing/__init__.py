"""Importers: rooms, nicks and sign-ins of other bridges."""
