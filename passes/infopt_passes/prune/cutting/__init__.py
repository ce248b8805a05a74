"""The graph of a model that is pruned: brought into a form in which units can go, and cut."""
