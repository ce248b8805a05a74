"""The accuracy of infopt: against the peers, with and without each algorithm, over a stream, and by weight precision.

``python -m tests.benchmarks.accuracy`` from the checkout measures and prints; the variables of
``tests/benchmarks/conftest.py`` say where models and peers are. Raw numbers go to a JSON file as soon as they are
there, and what is in it is not measured again.
"""
