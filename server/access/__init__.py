"""Who may ask, and from which sites: API keys, the door that they open, CORS."""
