"""Start the command ``exemplarcnn``, or say what it lacks where only a part of the packages is installed."""

import sys

from exemplarcnn import threads


def main() -> None:
    """Run the command."""
    threads.keep_freed_memory()
    try:
        from exemplarcnn import cli

        cli.app()
    except ModuleNotFoundError as error:
        if (error.name or "exemplarcnn").startswith("exemplarcnn"):
            raise
        sys.exit(
            f"error: cannot run this: the package {error.name} is not installed; the command belongs to the pipeline: "
            "pip install 'FOLDER[pipeline]', with the folder of your clone"
        )


if __name__ == "__main__":
    main()
