"""Any command of `rbs` on every host of a pod: python launch/tpu.py train CONFIG --out gs://...

Every host runs the same line; launch/README.md tells the whole way. Without a pod it is `rbs`.
"""

from rbs_jax.__main__ import run
from rbs_jax.launch import main

if __name__ == "__main__":
    run(main)
