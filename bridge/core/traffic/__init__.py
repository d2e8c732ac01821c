"""One portal at work: what crosses from its Matrix room to the remote chat, and back."""
