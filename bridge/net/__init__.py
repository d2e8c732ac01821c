"""Requests to addresses that a user named. There is no other way out to those."""
