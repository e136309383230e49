"""``python -m hpc``."""

from hpc.cli import main

main()
