"""Checkpoint readers: one file format each, all giving a ``Checkpoint``."""
