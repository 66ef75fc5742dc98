import os

# Before Keras is imported: no figure opens a window, and no log line stands between the results.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
