"""A training run or a sweep on TPU slices: calls xpk, which makes GKE workloads.

    python experiments/launch/xpk.py NAME --cluster C --tpu-type v5litepod-16 \
        --docker-image IMAGE [other options of `xpk workload create`] \
        -- train --cache CACHE --workdir W
    python experiments/launch/xpk.py NAME --tasks 6 --cluster C --tpu-type v5litepod-8 \
        --docker-image IMAGE -- sweep SWEEP.py --cache CACHE --workdir W

The first is one run over all hosts of a slice, or of `--num-slices` of them; the second
makes a workload NAME-i of one slice for every task. `--dry-run` prints the commands.
"""

import argparse
import shlex
import subprocess
import sys

# Run by bash in the container. It passes SIGTERM on, so that a preempted host saves,
# and then fails, so that xpk's --max-restarts starts the workload again.
WATCHED = (
    "trap 'kill -TERM $child; wait $child; exit 143' TERM; "
    "{command} & child=$!; wait $child"
)


def workload(name: str, options: list[str], arguments: list[str]) -> list[str]:
    """Returns the command that creates a workload of `fusionproxy ARGUMENTS`."""
    command = WATCHED.format(command=shlex.join(["fusionproxy", *arguments]))
    return [
        *("xpk", "workload", "create", "--workload", name),
        *("--max-restarts", "20", "--termination-grace-period-seconds", "120"),
        *options,
        *("--command", command),
    ]


def main() -> int:
    """Creates the workloads; returns the first exit code of xpk that is not 0."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("name")
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--dry-run", action="store_true")
    line = sys.argv[1:]
    cut = line.index("--") if "--" in line else len(line)
    given, options = parser.parse_known_args(line[:cut])
    name, arguments = given.name, line[cut + 1 :]
    if arguments[:1] not in (["train"], ["sweep"]):
        parser.error("what is run follows after --: train ... or sweep ...")
    if (arguments[0] == "sweep") != (given.tasks is not None):
        parser.error("--tasks is needed for a sweep, and for nothing else")
    if arguments[0] == "train":
        commands = [workload(name, options, [*arguments, "--distributed", "on"])]
    else:
        shares = [
            ["--index", str(i), "--count", str(given.tasks)] for i in range(given.tasks)
        ]
        commands = [
            workload(f"{name}-{i}", options, [*arguments, *share])
            for i, share in enumerate(shares)
        ]
    for command in commands:
        print(shlex.join(command), flush=True)
        code = 0 if given.dry_run else subprocess.run(command).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
