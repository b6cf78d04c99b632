"""``python -m ptame_deploy`` is ``ptame``."""

from ptame_deploy.cli import main

main()
