"""Who may do what, who wants no part, of whom nothing is taken; and who changed what."""
