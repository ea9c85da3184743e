"""What was computed lately is found again, and never more of it is held than was said."""

from concurrent.futures import ThreadPoolExecutor

from ctxshaper.text.remembered import Lately


def test_what_is_asked_for_stays_and_the_rest_goes():
    lately = Lately(100)
    lately.put("often", "value", 10)
    for number in range(100):
        lately.put(number, str(number), 10)
        assert lately.get("often", 10) == "value"
    assert lately.get(0, 10) is None
    assert lately.get(99, 10) == "99"


def test_what_is_larger_than_half_is_not_kept():
    lately = Lately(100)
    lately.put("large", "value", 51)
    assert lately.get("large", 51) is None


def test_threads_never_find_a_wrong_value():
    lately = Lately(400)

    def work(seed):
        for number in range(3000):
            key = (seed * 31 + number * 7) % 97
            value = lately.get(key, 10)
            assert value in (None, key * key)
            lately.put(key, key * key, 10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
