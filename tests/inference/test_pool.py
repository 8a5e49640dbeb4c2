import threading

import pytest

from stream_erc.inference.pool import Pool


def test_an_idle_object_is_lent_again():
    made = []
    pool = Pool(lambda: made.append(object()) or made[-1])
    for _ in range(3):
        with pool.lend() as lent:
            assert lent is made[0]
    assert len(made) == 1


def test_two_users_never_share():
    pool = Pool(list)
    with pool.lend() as one, pool.lend() as other:
        assert one is not other


def test_what_failed_is_not_lent_again():
    pool = Pool(list)
    with pytest.raises(ValueError, match="broken"), pool.lend() as broken:
        raise ValueError("broken")
    with pool.lend() as lent:
        assert lent is not broken


def test_many_threads():
    pool = Pool(lambda: [0])

    def work():
        for _ in range(500):
            with pool.lend() as counter:
                before = counter[0]
                counter[0] = before + 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counter[0] for counter in pool._idle) == 8 * 500
