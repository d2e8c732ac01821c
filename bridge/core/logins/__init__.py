"""People's logins: signed in, kept, ended; and double puppets."""
