"""The import of OpenVINO, without the telemetry that it sends when it is imported.

By default, ``import openvino`` sends its version and an id, which it stores in the home folder, to Google Analytics. OpenVINO
runs without the package that does it. Everything that uses OpenVINO must therefore import it from here.
"""

from __future__ import annotations

import sys

__all__ = ["opset8", "opset15", "ov"]

TELEMETRY = "openvino_telemetry"

_blocked = TELEMETRY not in sys.modules
if _blocked:
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # its import raises ImportError, which OpenVINO handles
try:
    import openvino as ov
    from openvino import opset8, opset15
finally:
    if _blocked:
        del sys.modules[TELEMETRY]
