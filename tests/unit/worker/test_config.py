"""A worker's configuration: contradictions are refused at once, secrets never shown."""

from typing import Any

import pytest

from transport.config import ConfigError
from worker.config import WorkerConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"worker_id": "a.b"},
        {"worker_id": ""},
        {"prefix": "a b"},
        {"max_pipelines": 0},
        {"max_pipelines": 1001},
        {"http_port": -1},
        {"http_port": 70000},
        {"cpu_cores": 0},
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).replace("_", ".")):
        WorkerConfig(**({"worker_id": "w"} | wrong))


def test_the_api_key_is_not_shown() -> None:
    assert "hunter2" not in repr(WorkerConfig("w", api_key="hunter2"))
