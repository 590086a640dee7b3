"""``mmllm doctor``: whether everything that mmllm needs is here and works."""

from __future__ import annotations

from mmllm_cli.options import AsJson, ModelName

__all__ = ["doctor"]


def doctor(model: ModelName = None, as_json: AsJson = False) -> int:
    """Check the installation, verify the model and time one real caption."""
    from mmllm_cli.console import print_json
    from mmllm_cli.diagnosis import diagnose, diagnosis_row, print_diagnosis
    from mobile_multimodal.errors import MmllmError

    checks = diagnose(model)
    if as_json:
        print_json(diagnosis_row(checks))
    else:
        print_diagnosis(checks)
    return MmllmError.exit_code if any(check.status == "broken" for check in checks) else 0
