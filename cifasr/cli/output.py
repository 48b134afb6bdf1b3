"""Where commands write: results to stdout as JSON lines, everything for a person to stderr."""

import json
import sys
from typing import Any

from rich.console import Console

err_console = Console(stderr=True)


def print_json(row: dict[str, Any]) -> None:
    """Write one result as a line of JSON to stdout, at once."""
    sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    sys.stdout.flush()
