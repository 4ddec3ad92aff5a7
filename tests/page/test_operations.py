"""The operations API, held against its description by schemathesis."""

import subprocess
import sys

from conftest import ADMIN_TOKEN


def test_the_api_does_what_its_description_says(dev):
    command = [
        "run", f"{dev.operations[0]}/admin/openapi.json", "--header", f"Authorization: Bearer {ADMIN_TOKEN}",
        "--exclude-path", "/admin/drain",  # which would end it; the behaviour tests have it
        "--max-examples", "25", "--seed", "7", "--no-color",
    ]
    # By its module: a script's first line may be too long for the system.
    run = subprocess.run(
        [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stdout
