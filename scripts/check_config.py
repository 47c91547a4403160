"""Is a config YAML at all? Snakemake names neither the file nor the line. Run by hand: python scripts/check_config.py FILE."""

import sys

from eightfold.config.resolve import check_yaml_file
from eightfold.core.files import UserError

if __name__ == "__main__":
    try:
        check_yaml_file(sys.argv[1])
    except UserError as error:
        sys.exit(f"Error: {error}")
