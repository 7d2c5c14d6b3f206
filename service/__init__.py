"""How the numbers travel: REST and WebSocket on FastAPI, and the process around them."""

import os

# ONNX Runtime tells Microsoft of each start, and can only be told not to before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
