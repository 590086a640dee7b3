"""``mmllm caption``: one sentence for each picture."""

from __future__ import annotations

from mmllm_cli.options import (
    AsJson,
    BackendName,
    BatchSize,
    Beam,
    Images,
    MaxTokens,
    MinConfidence,
    ModelName,
    Recursive,
    Threads,
)

__all__ = ["caption"]


def caption(
    images: Images,
    model: ModelName = None,
    backend: BackendName = "onnxruntime",
    threads: Threads = None,
    beam: Beam = 1,
    max_tokens: MaxTokens = 24,
    min_confidence: MinConfidence = 0.0,
    batch_size: BatchSize = 8,
    recursive: Recursive = False,
    as_json: AsJson = False,
) -> int:
    """Describe each picture in a sentence."""
    from mmllm_cli.run_pictures import RunSettings, run_pictures
    from mobile_multimodal.results import TaskRequest

    settings = RunSettings(
        model, backend, threads, beam, max_tokens, min_confidence, batch_size, recursive, as_json
    )
    return run_pictures(images, [TaskRequest("caption")], settings)
