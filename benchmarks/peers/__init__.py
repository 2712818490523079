"""Measures Peregrine and other engines side by side: the same prompts, in turn, on one machine."""
