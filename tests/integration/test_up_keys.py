"""`varpulis up --require-keys`: keys are made once, everybody is asked for one, and the commands have it."""

from pathlib import Path

import httpx
import psutil
import pytest

from proto_schemas.rest.base import API_BASE
from tests.support.cluster import Cluster, varpulis

pytestmark = pytest.mark.processes


def test_keys_are_made_at_the_first_start_and_shown_once(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, demo=True)
    done = varpulis(*cluster.up_command("--detach", "--require-keys", "-o", "json"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with cluster:
        directory = cluster.data_dir / "keys"
        secrets = {path.name: path.read_text().split()[-1] for path in directory.iterdir()}
        assert set(secrets) == {"admin.key", "worker.key", "cluster.key"}
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.iterdir())
        assert done.stderr.count(secrets["admin.key"]) == 1 and secrets["admin.key"] not in done.stdout
        url = cluster.urls[0] + API_BASE + "/pipeline-groups/demo"
        assert httpx.get(url, trust_env=False).status_code == 401
        own = varpulis("groups", "--data-dir", str(cluster.data_dir), cwd=tmp_path)
        assert own.returncode == 0 and "demo" in own.stdout, own.stderr
        stranger = varpulis("groups", "--url", cluster.urls[0], cwd=tmp_path)
        assert stranger.returncode == 1 and "--api-key-file" in stranger.stderr
        again = varpulis(*cluster.up_command("--detach"), cwd=tmp_path)
        assert again.returncode == 0 and secrets["admin.key"] not in again.stderr + again.stdout
        off = varpulis(*cluster.up_command("--detach", "--no-require-keys"), cwd=tmp_path)
        assert off.returncode == 2 and "contradicts" in off.stderr
        lines = [psutil.Process(cluster.pid(name)).cmdline() for name in cluster.processes]
        logs = "".join(path.read_text() for path in (cluster.data_dir / "logs").iterdir())
        for secret in secrets.values():
            assert not any(secret in word for line in lines for word in line)
            assert secret not in logs
        page = httpx.get(cluster.urls[0] + "/metrics", trust_env=False).text
        refused = [
            line for line in page.split("\n") if line.startswith("varpulis_cluster_signatures_refused_t")
        ]
        assert not refused, "the processes of one `up` share one cluster key"
