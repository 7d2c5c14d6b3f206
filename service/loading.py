"""The models of a process: all loaded, warmed up and self-tested before anything is served."""

from ser_core.endpointing import detector
from service.inference.onnx import OnnxBackend
from service.registry import ModelRegistry
from service.settings import Settings


def load_models(settings: Settings) -> ModelRegistry:
    """Loads, warms up and self-tests all models, and looks for the speech detector.

    Raises `ModelError`, `DeviceUnavailable` and `DetectorUnavailable`.
    """
    models = ModelRegistry.load(
        settings.model_dir,
        lambda path: OnnxBackend.load(
            path,
            settings.device,
            settings.n_threads,
            settings.max_batch,
            cuda_graphs=settings.cuda_graphs,
        ),
        settings.default_model,
    )
    for backend in models:
        detector(settings.vad, backend.spec.features)
    return models
