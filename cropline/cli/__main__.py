"""``python -m cropline.cli``: the command line, for processes that know their interpreter."""

from cropline.cli import main

main()
