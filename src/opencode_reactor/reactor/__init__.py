"""The only room with loops: watching, dispatching, driving runs."""
