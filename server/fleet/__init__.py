"""The same server on a Ray cluster: Falcon as Ray Serve's ingress, engines as its replicas.

Ray is imported in here alone, and by nobody who does not ask for it.
"""
