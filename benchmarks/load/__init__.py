"""Load over HTTP: arrivals, lengths, what was asked, what came of it, and whether that was good enough."""
