"""Checks of a model before it meets a runtime: will it parse, will it build, will it fuse, will it be right.

A rule is a row of :data:`infopt.checks.rules.RULES`: an id, a severity, a sentence, a remedy, and a small function that
finds the nodes. Rules read the graph and never run it; :mod:`infopt.checks.ask` then asks the runtimes that are
installed, in processes of their own.
"""
