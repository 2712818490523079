"""The online half: scheduler, KV cache, executors and sampling.

Knows no HTTP and no checkpoint formats.
"""
