"""The SLURM script, with stand-ins for the cluster's commands: when is a job queued again?"""

import os
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "pretrain.slurm"

COMMANDS = {
    "srun": 'shift; exec "$@"',
    "scontrol": 'if [ "$1" = requeue ]; then echo "$2" > "$RUN/requeued"; else echo node; fi',
    # As torchrun, whose exit code is 1 whatever its processes left with.
    "python": """trap 'sleep 0.1; eval "$WHEN_ASKED"; exit 1' TERM
mkdir -p "$RUN/checkpoints/step-00000003"
touch "$RUN/started"
[ -z "$CODE" ] || exit "$CODE"
while true; do sleep 0.05; done""",
}

STORED = 'mkdir "$RUN/checkpoints/step-00000005"'
DONE = 'rm -r "$RUN/checkpoints"; mkdir "$RUN/model"; touch "$RUN/model/config.json"'


def submit(folder: Path, when_asked: str, code: str = "", ask: bool = True) -> tuple[int, bool]:
    """Run the script; return its exit code and whether the job was queued again."""
    commands, run = folder / "bin", folder / "run"
    commands.mkdir()
    for name, text in COMMANDS.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(0o755)
    own = {"RUN": str(run), "WHEN_ASKED": when_asked, "CODE": code}
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node", "SLURM_NNODES": "1"}
    path = {"PATH": f"{commands}:{os.environ['PATH']}", "PYTHON": str(commands / "python")}
    script = subprocess.Popen(
        ["bash", str(SCRIPT), "--recipe", "demo", "--out", str(run)],
        env=os.environ | own | job | path,
    )
    if ask:
        limit = time.monotonic() + 60
        while not (run / "started").exists():
            assert time.monotonic() < limit
            time.sleep(0.02)
        script.terminate()
    left = script.wait(timeout=60)
    assert not list(run.glob(".asked*"))
    return left, (run / "requeued").exists()


@pytest.mark.parametrize(
    ("when_asked", "left", "again"),
    [(STORED, 0, True), (DONE, 0, False), ("true", 1, False)],
    ids=["interrupted", "finished", "failed"],
)
def test_a_job_that_is_asked_to_end_is_queued_again_only_if_it_was_interrupted(
    when_asked: str, left: int, again: bool, tmp_path: Path
) -> None:
    assert submit(tmp_path, when_asked) == (left, again)


@pytest.mark.parametrize("code", ["0", "1"])
def test_a_job_that_ends_by_itself_leaves_with_its_own_code(code: str, tmp_path: Path) -> None:
    assert submit(tmp_path, "true", code, ask=False) == (int(code), False)
