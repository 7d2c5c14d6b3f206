"""What the service costs, alone and beside others. Results: RESULTS.md."""

import os

# ONNX Runtime tells Microsoft of each start, and can only be told not to before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
