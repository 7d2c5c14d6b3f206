"""Training, assessment and export of GLRF: the only package that imports torch."""

import os

# ONNX Runtime tells Microsoft of each start, and can only be told not to before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
