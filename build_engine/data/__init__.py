"""Texts that ship with the build."""
