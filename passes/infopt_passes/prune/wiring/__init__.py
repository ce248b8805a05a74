"""Which units of a graph come and go together: what every operator ties, and the groups that follow."""
