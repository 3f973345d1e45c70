"""What `deploy/credentials.sh` makes, for tests."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster import ROOT

DEPLOY = ROOT / "deploy"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")


def made(directory: Path, *names: str, **environ: str) -> Path:
    """The directory, with credentials for these names."""
    done = subprocess.run(
        [DEPLOY / "credentials.sh", directory, *names],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory
