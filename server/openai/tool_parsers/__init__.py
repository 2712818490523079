"""Calls of tools in what models write: a scanner for each way of writing them, all behind one protocol."""
