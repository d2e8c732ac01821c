"""Lanes: items in order, how far each has come, what is tried again, what is put aside."""
