"""Nouns: what OpenCode speaks of and what a run consists of. Frozen values; no I/O, no clock, no pydantic."""
