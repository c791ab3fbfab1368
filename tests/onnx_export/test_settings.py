from __future__ import annotations

from typing import Any

import pytest

from phonesearch.errors import ExportError
from phonesearch.onnx_export.settings import GraphSettings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_bits": 16}, "must be 4 or 8, got 16"),
        ({"form": "portable"}, "must be 16 or 32, got 4"),
        ({"form": "mobile"}, "deployment or portable, got 'mobile'"),
        ({"block_size": 48}, "got 48"),
        ({"accuracy_level": 5}, "0 to 4, got 5"),
        ({"logits": "first"}, "last or all, got 'first'"),
    ],
)
def test_settings_that_no_graph_has_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        GraphSettings(**fields)
