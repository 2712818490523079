"""Model recipes: one TOML file each, shipped as package data."""
