"""`python -m basewise` is the `basewise` command."""

from basewise.cli.main import main

main()
