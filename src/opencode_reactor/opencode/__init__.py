"""Talking to an OpenCode server: the only room with httpx and with the wire's shapes."""
