"""Several processes behind one port: a parent that accepts, and workers that serve."""
