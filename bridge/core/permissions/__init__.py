"""Who may do what and how often, who wants no part, of whom nothing is taken."""
