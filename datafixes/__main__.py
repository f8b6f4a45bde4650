"""``python -m datafixes``."""

from datafixes.cli.main import main

if __name__ == "__main__":
    main()
