import os

from hypothesis import settings

# Before Keras is imported: no figure opens a window, and no log line stands between the results.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# `make test` tries some examples of each property, `make test-all` ten thousand.
settings.register_profile("some", max_examples=50, deadline=None)
settings.register_profile("many", max_examples=10_000, deadline=None)
settings.load_profile("some")
