"""Files: their blobs, what is read out of them, and the search in it."""

import os

# Read when numpy is first imported. Its library would take all cores for products that one does
# in a millisecond, and keep them busy while it waits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
