"""The promise of the measurement: it covers every layer that is here, with commands that really are confined."""

from tests.bench.confined import confined_ms
from tests.support.levels import LEVELS, missing


def test_every_layer_that_is_here_costs_something() -> None:
    found = confined_ms(turns=3)

    assert set(found) == {level.value for level in LEVELS if not missing(level)}
    assert all(cost.cpu_ms > 0 for cost in found.values()), found
