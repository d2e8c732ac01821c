"""Modules at work: networks with their clients, bots in their rooms, each supervised."""
