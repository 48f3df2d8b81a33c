"""`python -m chargpt_lightning`."""

from chargpt_lightning.cli import main

if __name__ == "__main__":
    main()
