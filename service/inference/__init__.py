"""The network at work: one engine, and the queue before it."""
