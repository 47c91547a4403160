"""What several test files share: one real run of the whole workflow on tiny pictures."""

import pytest
from pipeline import Checkout


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Checkout:
    """A checkout whose `submission` target has been made. Shared: look, but change only a copy."""
    checkout = Checkout.new(tmp_path_factory.mktemp("workflow") / "checkout")
    checkout.first_output = checkout.run("submission")
    return checkout
