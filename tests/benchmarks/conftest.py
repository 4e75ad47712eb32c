"""What needs a C compiler is left out, loudly, where there is none."""

import pytest

from benchmarks import tools


@pytest.fixture
def compiler() -> None:
    """Skip a test that needs programs in C where they cannot be built."""
    if tools.compiled("csink") is None:
        pytest.skip(
            f"the benchmarks' programs in C are not tested: {tools.NO_COMPILER}"
        )
