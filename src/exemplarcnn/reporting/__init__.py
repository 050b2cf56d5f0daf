"""Results to read and to look at."""
