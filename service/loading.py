"""The models of a process: all loaded, warmed up and self-tested before anything is served."""

import importlib
from concurrent.futures import ThreadPoolExecutor

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


def load_models_beside(settings: Settings, module: str) -> ModelRegistry:
    """`load_models` in a thread, while a module is imported that takes as long.

    ONNX Runtime works outside of Python most of that time, so on two cores the slower of the two
    counts, and not their sum. Raises as `load_models`.
    """
    with ThreadPoolExecutor(1) as loader:
        loading = loader.submit(load_models, settings)
        importlib.import_module(module)
        return loading.result()
