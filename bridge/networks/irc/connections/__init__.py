"""One connection to a server: made, read and written, with questions and answers."""
