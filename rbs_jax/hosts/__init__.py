"""The processes of a run, one a host of the pod: what they agree on, and how they end."""
