"""Durable jobs: a recording is on disk before it is accepted, and what is accepted is scored."""
