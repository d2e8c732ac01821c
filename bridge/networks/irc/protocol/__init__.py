"""What lines mean, without I/O: capabilities, signing in, limits, modes, refusals."""
