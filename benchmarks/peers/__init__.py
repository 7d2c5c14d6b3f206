"""What people would take instead of this service, each as its own documentation has it.

Only `benchmarks.side_by_side` starts them. They are installed by the extra `bench`, in an
environment of their own (`make bench`).
"""
