"""``mmllm caption``: one sentence for each picture."""

from __future__ import annotations

from mmllm_cli.options import Images, RunSettings, with_run_settings

__all__ = ["caption"]


@with_run_settings()
def caption(images: Images, settings: RunSettings) -> int:
    """Describe each picture in a sentence."""
    from mmllm_cli.run_pictures import run_pictures
    from mobile_multimodal.results import TaskRequest

    return run_pictures(images, [TaskRequest("caption")], settings)
