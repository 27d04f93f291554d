import pytest

from hub.core.receiving import MAX_HEAD_BYTES, PushForbidden, Wish, check_own, wishes_of
from protocol.progress import wip_ref

OLD, NEW, NONE = "1" * 40, "2" * 40, "0" * 40
OWN = "refs/heads/agentcom/one/a-title-01j0000000000000000000000a-e3"


def line(text: str) -> bytes:
    return f"{len(text) + 4:04x}{text}".encode()


def head(*lines: str) -> bytes:
    return b"".join(map(line, lines)) + b"0000"


def test_the_names_that_a_push_wants_to_set_are_read_from_its_beginning() -> None:
    whole = head(f"{NONE} {NEW} {OWN}\0report-status side-band-64k", f"{OLD} {NEW} refs/heads/main\n")

    assert wishes_of(whole + b"PACK...") == (Wish(OWN), Wish("refs/heads/main"))
    assert {wishes_of(whole[:length]) for length in range(len(whole))} == {None}
    assert wishes_of(b"0000") == ()
    assert wishes_of(head(f"{'1' * 64} {'2' * 64} {OWN}\0object-format=sha256")) == (Wish(OWN),)
    assert wishes_of(head(f"{OLD} {NONE} {OWN}\0delete-refs")) == (Wish(OWN, removes=True),)


@pytest.mark.parametrize(
    "sent, why",
    [
        (head(f"shallow {OLD}"), "no branch"),
        (head("push-cert\0 x"), "no branch"),
        (head(f"{OLD} {NEW} "), "no branch"),
        (head(f"{OLD} {NEW[:-1]} {OWN}"), "no branch"),
        (head(f"{OLD} {NEW} {OWN}\nrefs/heads/main"), "no branch"),
        (head(f"{NONE} {NEW} {OWN}\0report-status push-options"), "orders"),
        (head(f"{NONE} {NEW} {OWN}", f"{NONE} {NEW} {OWN}\0\tpush-options=1\n"), "orders"),
        (head(f"{NONE} {NEW} {OWN}\0push-cert=nonce"), "orders"),
        (b"PACK", "no list"),
        (b"00zz", "no list"),
        (b"0001", "so many"),
        (b"0004", "so many"),
        (b"\xff\xff\xff\xff", "no list"),
        (line("x" * 60_000) + line("x" * 60_000), "no branch"),
    ],
)
def test_what_is_no_list_of_branches_is_refused(sent: bytes, why: str) -> None:
    with pytest.raises(PushForbidden, match=why):
        wishes_of(sent)


def test_a_list_without_end_is_refused() -> None:
    with pytest.raises(PushForbidden, match="so many"):
        wishes_of(line(f"{OLD} {NEW} {OWN}") * (MAX_HEAD_BYTES // 100))


@pytest.mark.parametrize(
    "ref",
    [
        "refs/heads/main",
        "refs/heads/agentcom/one/x-01j0000000000000000000000a-e2",
        "refs/heads/agentcom/one/x-01j0000000000000000000000b-e3",
        "refs/heads/agentcom/one/x-01j0000000000000000000000a-e33",
        "refs/heads/x-01j0000000000000000000000a-e3",
        "refs/tags/agentcom/one/x-01j0000000000000000000000a-e3",
        "refs/heads/agentcom/../x-01j0000000000000000000000a-e3",
        "agentcom/one/x-01j0000000000000000000000a-e3",
        "HEAD",
    ],
)
def test_an_attempt_pushes_its_own_branch_only(ref: str) -> None:
    task = "01j0000000000000000000000a"
    check_own((Wish(OWN), Wish(wip_ref(task, 3)), Wish(wip_ref(task, 2), removes=True)), task, 3)
    check_own((), task, 3)
    for removes in (False, True):
        with pytest.raises(PushForbidden, match="pushes its own branch and nothing else"):
            check_own((Wish(OWN), Wish(ref, removes)), task, 3)


@pytest.mark.parametrize("epoch, removes", [(2, False), (4, False), (4, True), (0, True)])
def test_an_attempt_sets_its_own_work_in_progress_and_removes_that_of_earlier_ones(epoch: int, removes: bool) -> None:
    with pytest.raises(PushForbidden):
        check_own((Wish(wip_ref("01j0000000000000000000000a", epoch), removes),), "01j0000000000000000000000a", 3)
