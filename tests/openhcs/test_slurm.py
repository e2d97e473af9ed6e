"""Jobs of SLURM: what is submitted for which options."""

from __future__ import annotations

import shlex
import stat
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openhcs._errors import ClusterError, MisuseError
from openhcs.cli import main
from openhcs.execution import SlurmJobs, slurm_executor

if TYPE_CHECKING:
    from collections.abc import Callable

if find_spec("dask_jobqueue") is None:  # importing it here would take Ctrl-C for itself
    pytest.skip("dask_jobqueue is not installed", allow_module_level=True)
pytestmark = pytest.mark.timeout(240)

SBATCH = """#!/bin/sh
cp "$1" "$0.$$.job"
echo "Submitted batch job $$"
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Give the scripts that were submitted, to a command that only keeps them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", "#!/bin/sh\nexit 0\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return lambda: [path.read_text() for path in sorted(folder.glob("*.job"))]


def test_the_script_asks_for_what_was_said(tmp_path: Path, sbatch: Callable[[], list[str]]) -> None:
    options = tmp_path / "cluster.toml"
    options.write_text(
        'queue = "short"\naccount = "screening"\njob_extra_directives = ["--exclude=node13"]\n'
        'interface = "lo"\n'
    )
    jobs = SlurmJobs(
        workers=4,
        per_job=2,
        memory="8GB",
        walltime="04:00:00",
        options=SlurmJobs.read_options(options),
    )
    shared = tmp_path / "shared"
    with slurm_executor(jobs, shared) as executor:
        lines = submitted(sbatch, 2)[0].splitlines()
        assert "#SBATCH -p short" in lines
        assert "#SBATCH -A screening" in lines
        assert "#SBATCH --cpus-per-task=2" in lines
        assert "#SBATCH --mem=8G" in lines
        assert "#SBATCH -t 04:00:00" in lines
        assert "#SBATCH --exclude=node13" in lines
        words = shlex.split(lines[-1])
        assert words[words.index("--nworkers") + 1] == "2"
        assert words[words.index("--nthreads") + 1] == "1"
        # whoever reaches the scheduler needs the certificate, which is this user's alone
        assert str(executor).startswith("Dask at tls://")
        secret = Path(words[words.index("--tls-key") + 1])
        assert secret.parent.parent == shared
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert [path.name for path in shared.iterdir()] == ["logs"]


def test_jobs_are_submitted_until_there_are_enough_workers(
    tmp_path: Path, sbatch: Callable[[], list[str]]
) -> None:
    jobs = SlurmJobs(
        workers=4, per_job=2, memory="1GB", walltime="00:10:00", options={"interface": "lo"}
    )
    with slurm_executor(jobs, tmp_path / "shared"):
        assert len(submitted(sbatch, 2)) == 2


def test_what_is_needed_and_not_said_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ClusterError, match="say how much memory"),
        slurm_executor(SlurmJobs(workers=1), tmp_path),
    ):
        pass
    broken = tmp_path / "broken.toml"
    broken.write_text("queue = ")
    with pytest.raises(MisuseError, match=r"broken\.toml is no TOML"):
        SlurmJobs.read_options(broken)


def submitted(sbatch: Callable[[], list[str]], count: int) -> list[str]:
    """Wait for the scripts of so many jobs."""
    waiting = threading.Event()
    while len(sbatch()) < count:
        waiting.wait(0.05)
    return sbatch()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--slurm"], "give --workers N"),
        (["--dask", "tcp://x:1", "--workers", "2"], "leave --workers out"),
        (["--job-memory", "8GB"], "--job-memory is for jobs of SLURM"),
        (["--dask", "tcp://x:1", "--slurm"], "not allowed with"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["run", "plate", "--out", "out", *words])
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == 2
    assert said in capsys.readouterr().err


LOADED = """
import signal, sys, tempfile
from pathlib import Path
from openhcs.execution import SlurmJobs, slurm_executor
before = signal.getsignal(signal.SIGINT)
try:
    with slurm_executor(SlurmJobs(workers=1), Path(tempfile.mkdtemp())):
        pass
except Exception:
    pass
assert "dask_jobqueue" in sys.modules
assert signal.getsignal(signal.SIGINT) is before
"""


def test_ctrl_c_stays_with_whom_it_belongs_to() -> None:
    subprocess.run([sys.executable, "-c", LOADED], check=True, timeout=120)
