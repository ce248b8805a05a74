"""The gate: a report against a budget and against the report of an earlier commit, for people and for CI."""
