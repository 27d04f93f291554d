"""Promises of :mod:`protocol.prices`."""

import pytest

from protocol.prices import Bill, Price, Prices, read_price


def test_a_price_is_read_from_a_setting() -> None:
    price = read_price("hf.co/a=b:Q4=0.5/1.5/0.05@2025-11-01")

    assert price == Price(
        model="hf.co/a=b:Q4",
        input_usd=0.5,
        output_usd=1.5,
        cached_usd=0.05,
        source="the hub's settings",
        at="2025-11-01",
    )


@pytest.mark.parametrize("text", ["", "m", "m=", "=1/2", "m=1", "m=1/x", "m=-1/2", "m=1/2/3/4", "m=nan/1", "m=1/inf"])
def test_what_is_no_price_is_refused_with_the_form_of_one(text: str) -> None:
    with pytest.raises(ValueError, match="write it as MODEL=INPUT/OUTPUT"):
        read_price(text)


def test_tokens_from_a_cache_have_their_own_price_if_there_is_one() -> None:
    assert Price(input_usd=2.0, output_usd=10.0, cached_usd=0.2).of_tokens(1_000, 100, 900) == pytest.approx(
        (100 * 2 + 900 * 0.2 + 100 * 10) / 1e6
    )
    assert Price(input_usd=2.0, output_usd=10.0).of_tokens(1_000, 100, 900) == pytest.approx(0.003)
    assert Price(gpu_hour_usd=1.0).of_tokens(1, 1) is None


def test_a_gpu_costs_its_time_and_its_energy_where_that_is_measured() -> None:
    price = Price(gpu_hour_usd=3.6, kwh_usd=0.5)

    assert price.of_machine(10.0, 2.0) == pytest.approx(0.01 + 0.001)
    assert price.of_machine(10.0, None) == pytest.approx(0.01)


def test_the_settings_of_a_hub_price_named_models_first_and_local_work_at_all() -> None:
    named = read_price("m=1/2")
    prices = Prices([named], gpu_hour_usd=1.0)

    assert prices.of("m", is_local=False) is prices.of("m", is_local=True) is named
    assert prices.of("other", is_local=True) == Price(gpu_hour_usd=1.0, source="the hub's settings")
    assert prices.of("other", is_local=False) is Prices().of("other", is_local=True) is None


def test_bills_add_up_what_was_measured() -> None:
    one, other = Bill(gpu_s=1.0, energy_wh=0.5), Bill(price=Price(model="m"), gpu_s=2.0)

    assert one.plus(other) == Bill(price=Price(model="m"), gpu_s=3.0, energy_wh=0.5)
    assert one.plus(None) is one
