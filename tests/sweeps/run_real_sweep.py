"""A sweep's command with time to be killed: it waits after every report.

Usage: run_real_sweep.py SECONDS ARGUMENTS...
"""

import sys
import time

from fusionproxy_jax import cli
from fusionproxy_jax.commands.sweep_display import SweepDisplay


def main() -> None:
    show, seconds = SweepDisplay.show, float(sys.argv[1])

    def show_and_wait(self, progress) -> None:
        show(self, progress)
        time.sleep(seconds)

    SweepDisplay.show = show_and_wait
    sys.argv = ["fusionproxy", "sweep", *sys.argv[2:]]
    cli.main()


if __name__ == "__main__":
    main()
