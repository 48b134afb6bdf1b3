import pytest
import torch

COMPARED = pytest.StashKey[list[tuple[str, str, str, str]]]()


def pytest_configure(config):
    config.stash[COMPARED] = []


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def compared(request):
    """Take down what is compared, for the table: the library, what, ours and theirs."""

    def take_down(library, what, ours, theirs):
        request.config.stash[COMPARED].append((library, what, str(ours), str(theirs)))

    return take_down


def pytest_terminal_summary(terminalreporter, config):
    if rows := config.stash[COMPARED]:
        rows = [("library", "what", "cifasr", "library's"), *rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        terminalreporter.section("compared")
        for row in rows:
            terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
