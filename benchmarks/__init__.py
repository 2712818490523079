"""Measures servers over HTTP and engines in process; ``docs/benchmarks.md`` says how."""
