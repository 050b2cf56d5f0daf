"""Start the command ``exemplarcnn``, or say why it cannot start where only a part of the packages is installed."""

import sys


def main() -> None:
    """Run the command."""
    try:
        from exemplarcnn import cli
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("exemplarcnn"):
            raise
        sys.exit(
            f"error: cannot start exemplarcnn: {error.name} is not installed; the command belongs to the pipeline: "
            "pip install 'exemplarcnn[pipeline]'"
        )
    cli.app()


if __name__ == "__main__":
    main()
