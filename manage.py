#!/usr/bin/env python
"""Django's entry: the same commands as the console script ``z4j``."""

from z4j_project.cli import main

if __name__ == "__main__":
    main()
