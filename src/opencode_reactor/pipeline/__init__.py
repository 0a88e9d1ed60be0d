"""Rules: what a pipeline is, when an answer counts, what a failure calls for. Pure; no I/O but reading files
a pipeline names, no clock, no asyncio.
"""
