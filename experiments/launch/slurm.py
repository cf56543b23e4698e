"""A sweep as a Slurm array job, through submitit; waits, then merges the report.

    python experiments/launch/slurm.py SWEEP.py --cache CACHE --workdir W --tasks 6 \
        --partition gpu --gpus 1 --minutes 240 [other options of `fusionproxy sweep`]

`--cluster local` runs the tasks here instead, all at once. The workdir must be on
storage that all nodes see. A preempted task saves, goes back to the queue and goes on.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time

import submitit

SWEEP = (sys.executable, "-m", "fusionproxy_jax.cli", "sweep")


class Task:
    """A task of the array; submitit pickles it, and calls it again after a requeue."""

    def __init__(self, command: list[str]):
        self.command, self.child = command, None

    def __call__(self, index: int) -> int:
        """Trains the share of this index; returns the exit code of the sweep."""
        self.child = subprocess.Popen(
            [*self.command, "--index", str(index)],
            # Some clusters signal every process of a job; it would end this one.
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        )
        signal.signal(signal.SIGTERM, self.leave)
        return os.waitstatus_to_exitcode(os.waitpid(self.child.pid, 0)[1])

    def stop(self) -> None:
        """Has the sweep save its state and waits for it."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.child.pid, signal.SIGTERM)
                os.waitpid(self.child.pid, 0)

    def leave(self, *_: object) -> None:
        """Slurm preempts a task that it requeues itself, or cancels it."""
        self.stop()
        # One that ended by itself would be done, not requeued: it waits for its end.
        time.sleep(3600 if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" else 0)
        sys.exit(1)

    def checkpoint(self, index: int) -> submitit.helpers.DelayedSubmission:
        """Submitit asks for it before the time is up or the node is taken away."""
        self.stop()
        return submitit.helpers.DelayedSubmission(Task(self.command), index)


def main() -> int:
    """Submits, waits and merges; returns 1 when a task failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("file")
    for name in ("--cache", "--workdir", "--tasks"):
        parser.add_argument(name, required=True, type=int if name == "--tasks" else str)
    parser.add_argument("--cluster", default="slurm", choices=("slurm", "local"))
    parser.add_argument("--partition")
    for name, default in (("--gpus", 0), ("--cpus", 8), ("--minutes", 240)):
        parser.add_argument(name, type=int, default=default)
    given, others = parser.parse_known_args()
    command = [*SWEEP, given.file, "--cache", given.cache]
    command += ["--workdir", given.workdir, *others]
    executor = submitit.AutoExecutor(f"{given.workdir}/jobs", cluster=given.cluster)
    executor.update_parameters(
        name="fusionproxy",
        timeout_min=given.minutes,
        gpus_per_node=given.gpus,
        cpus_per_task=given.cpus,
        slurm_partition=given.partition,
        slurm_signal_delay_s=120,
    )
    task = Task([*command, "--count", str(given.tasks)])
    jobs = executor.map_array(task, range(given.tasks))
    print(f"job {jobs[0].job_id}, logs in {executor.folder}", flush=True)
    failed = False
    for index, job in enumerate(jobs):
        try:
            code = job.result()
        except submitit.core.utils.UncompletedJobError as error:
            code = " ".join(str(error).split("\n")[:2])
        if code:
            failed = True
            print(f"task {index}, job {job.job_id}, failed: {code}", file=sys.stderr)
    subprocess.run([*command, "--report"], check=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
