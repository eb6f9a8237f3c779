"""Any command of `rbs` on every host of a pod: python launch/tpu.py train CONFIG --out gs://...

Every host runs the same line; launch/README.md tells the whole way. Without a pod it is `rbs`.
`--print-commands ...` prints the commands that rent a pod and run a command there.
"""

import sys

from rbs_jax.__main__ import run
from rbs_jax.launch import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["--print-commands"]:
        from commands import print_commands

        sys.exit(print_commands(sys.argv[2:]))
    run(main)
