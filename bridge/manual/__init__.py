"""Pages and files that are made from the code: the reference, the manual page, alerts, a board."""
