"""Bots that come with Trestle. Each knows only ``bridge.sdk``."""
