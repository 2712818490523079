"""Measures what is served, over HTTP, as clients see it."""
