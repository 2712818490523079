"""Long runs of the real server that show that it stays up and stays right: overlap, faults, overload."""
