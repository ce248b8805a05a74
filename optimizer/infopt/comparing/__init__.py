"""The verbs ``compare`` and ``predict``: models, artifacts and predictions on the same samples."""
