"""A sweep as Ray tasks, one an index; waits, then merges the report.

    python experiments/launch/ray_sweep.py SWEEP.py --cache CACHE --workdir W \
        --tasks 6 --gpus 1 [other options of `fusionproxy sweep`]

Runs on the cluster that RAY_ADDRESS names, else on this machine. The workdir must be on
storage that all nodes see. A task whose worker or node dies is started again.
"""

import argparse
import ctypes
import signal
import subprocess
import sys

import ray

SWEEP = (sys.executable, "-m", "fusionproxy_jax.cli", "sweep")
PR_SET_PDEATHSIG = 1


def train(command: list[str], index: int) -> int:
    """Trains the share of this index; returns the exit code of the sweep."""
    done = subprocess.run(
        [*command, "--index", str(index)],
        # A killed worker leaves its child behind; the next try must be alone.
        preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ChildProcessError(f"task {index} was ended by {name}")
    return done.returncode


def main() -> int:
    """Runs all tasks and merges; returns 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("file")
    for name in ("--cache", "--workdir", "--tasks"):
        parser.add_argument(name, required=True, type=int if name == "--tasks" else str)
    for name, default in (("--cpus", 1.0), ("--gpus", 0.0), ("--retries", 3)):
        parser.add_argument(name, type=type(default), default=default)
    given, others = parser.parse_known_args()
    command = [*SWEEP, given.file, "--cache", given.cache]
    command += ["--workdir", given.workdir, *others]
    ray.init()
    task = ray.remote(train).options(
        num_cpus=given.cpus,
        num_gpus=given.gpus,
        max_retries=given.retries,
        retry_exceptions=[ChildProcessError],
    )
    counted = [*command, "--count", str(given.tasks)]
    failed = False
    results = [task.remote(counted, index) for index in range(given.tasks)]
    for index, result in enumerate(results):
        try:
            code = ray.get(result)
        except ray.exceptions.RayError as error:
            code = str(error).strip().splitlines()[-1]
        if code:
            failed = True
            print(f"task {index} failed: {code}", file=sys.stderr)
    subprocess.run([*command, "--report"], check=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
