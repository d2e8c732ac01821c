"""The homeserver side: the only place that knows mautrix and the Matrix APIs."""
