"""One store over drivers: the only room with SQL."""
