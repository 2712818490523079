"""Peregrine on Ray, on one machine: what Serve costs, what routing brings, what failures and scaling do."""
