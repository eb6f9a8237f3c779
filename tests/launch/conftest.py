import sys
from pathlib import Path

LAUNCH = Path(__file__).parents[2] / "launch"
sys.path.insert(0, str(LAUNCH))  # as for launch/tpu.py, which is a script there
