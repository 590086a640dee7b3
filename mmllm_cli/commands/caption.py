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
    UrlTimeout,
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
    url_timeout: UrlTimeout = 60.0,
    as_json: AsJson = False,
) -> int:
    """Describe each picture in a sentence."""
    from mmllm_cli.run_pictures import RunSettings, run_pictures
    from mobile_multimodal.results import TaskRequest

    settings = RunSettings(
        model=model,
        backend=backend,
        threads=threads,
        beam=beam,
        max_tokens=max_tokens,
        min_confidence=min_confidence,
        batch_size=batch_size,
        recursive=recursive,
        url_timeout_s=url_timeout,
        as_json=as_json,
    )
    return run_pictures(images, [TaskRequest("caption")], settings)
