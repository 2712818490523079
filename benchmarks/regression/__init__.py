"""The regression gate: what a change costs, in counts that are exact and in times that are ratios."""
