"""Trains and measures the linear score head of the default reward model."""
