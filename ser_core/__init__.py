"""The pure core: bytes in, events out. No socket, no clock, no environment, no network runtime."""
