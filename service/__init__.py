"""How the numbers travel: REST and WebSocket on FastAPI, and the process around them."""
