"""The promises of redaction: no form of a secret gets through however it is cut up, and nothing else is touched."""

import base64
import json
import random
import re
import string
import tracemalloc
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.model import Finding, TaskResult, Usage
from protocol.redaction import MASK, Redactor
from protocol.secret_text import PIECE_CHARS, Values

SECRET = "hunter2/ü+key=with&all sorts"
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "\n".join(["MIIEow" + "IBAAKCAQEA" * 5] * 6)
    + "\n-----END RSA PRIVATE KEY-----"
)
TOKENS = (
    "ghp_" + "a1B2" * 9, "github_pat_" + "A1_b" * 8, "glpat-" + "x-Y_" * 6, "sk-ant-api03-" + "q7" * 20,
    "AKIA" + "ABCD" * 4, "AIza" + "a" * 35, "xoxb-1234567890-abc", "hf_" + "Zz9" * 12, "npm_" + "a" * 36,
    "acm_0123456789ab_" + "A" * 49, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
)  # fmt: skip


def written(secret: str) -> list[str]:
    raw = secret.encode()
    return [
        secret,
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret, safe="").lower(),
        raw.hex(),
        raw.hex().upper(),
    ]


@pytest.mark.parametrize("form", written(SECRET))
def test_a_known_secret_is_found_however_a_program_writes_it(form: str) -> None:
    assert form.strip('"') not in Redactor([SECRET]).text(f"before {form} after")
    assert MASK in Redactor([SECRET]).text(f"before {form} after")


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("secret", [SECRET, "correct-horse", "x" * 200 + "end"])
def test_a_known_secret_is_found_in_base64_at_every_alignment(before: str, secret: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(f"{before}{secret}, and more".encode()).decode()
        clean = Redactor([secret]).text(text)

        first, last = -(-len(before.encode()) * 8 // 6) + 1, (len(before.encode()) + len(secret.encode())) * 8 // 6 - 1
        inside = text[first:last]
        assert inside[:9] not in clean
        assert inside[-9:] not in clean
        assert MASK in clean


def test_a_secret_of_many_lines_is_found_line_by_line_and_in_wrapped_base64() -> None:
    body = PEM.splitlines()[2]
    indented = "\n".join(f"    {line}" for line in PEM.splitlines())
    wrapped = base64.encodebytes(PEM.encode()).decode()

    clean = Redactor([PEM]).text(f"{indented}\n{wrapped}")

    assert body not in clean
    assert not any(line in clean for line in wrapped.splitlines()[:-1] if len(line) > 60)


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_known_by_its_shape(token: str) -> None:
    assert Redactor().text(f"export KEY={token}; x") == f"export KEY={MASK}; x"


def test_a_private_key_and_a_password_in_an_address_are_known_by_their_shape() -> None:
    assert Redactor().text(f"a\n{PEM}\nb") == f"a\n{MASK}\nb"
    assert Redactor().text("git clone https://me:pass@host/x") == f"git clone https://{MASK}@host/x"


@pytest.mark.parametrize(
    "text",
    [
        "task sk-learn, risk-averse, desk-top-publishing-software-suite-2024",
        "AKIA and ASIA are prefixes; hf_short; ghp_short; eyJ",
        "a b c pass key secret token",
        "https://host:8080/a@b and mailto:me@host",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "The PRIVATE KEY is not here",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    stream = Redactor(["short", "", "   ", "1234567"]).stream()

    assert Redactor(["short", "", "   ", "1234567"]).text(text) == text
    assert stream.feed(text) + stream.flush() == text


def test_the_end_of_a_secret_at_the_beginning_of_a_tail_is_found() -> None:
    redactor = Redactor(["correct-horse-battery"])

    assert redactor.rest("horse-battery and more") == f"{MASK} and more"
    assert redactor.rest("[... 9 bytes cut ...]\nhorse-battery") == f"[... 9 bytes cut ...]\n{MASK}"
    assert redactor.rest("ery nice") == "ery nice"


def test_every_text_of_a_result_is_looked_at_and_all_else_stays() -> None:
    secret = "correct-horse"
    finding = Finding(name="n", type="t", passed=False, detail=f"got {secret}", output=secret, seconds=1.5)
    result = TaskResult(
        execution_ok=False,
        verified=False,
        output=f"x {secret}",
        report=(finding,),
        error=secret,
        usage=Usage(seconds=2),
    )

    clean = Redactor([secret]).value(result)

    assert secret not in repr(clean)
    assert (clean.report[0].seconds, clean.usage, clean.verified) == (1.5, result.usage, False)
    assert Redactor(["another-one"]).value(result) is result


ALPHABET = "ab-_= \n" + string.ascii_letters[:4]
PIECES = st.one_of(
    st.text(ALPHABET, max_size=30),
    st.sampled_from(
        [SECRET, "correct-horse", *TOKENS, PEM, "https://me:pass@host/", "gh", "sk-", "-----BEGIN ", "corre"]
    ),
)


def one_mask(text: str) -> str:
    """Secrets side by side count as one: pieces of text may show them as one or as two."""
    return re.sub(rf"({re.escape(MASK)})+", MASK, text)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=8), st.data())
def test_a_stream_gives_what_the_whole_gives_however_it_is_cut(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    redactor = Redactor([SECRET, "correct-horse"])
    stream, out, at = redactor.stream(), [], 0
    while at < len(text):
        size = data.draw(st.integers(1, 40))
        out.append(stream.feed(text[at : at + size]))
        at += size
    out.append(stream.flush())

    found = "".join(out)
    assert one_mask(found) == one_mask(redactor.text(text))
    assert SECRET not in found
    assert "correct-horse" not in found


@pytest.mark.parametrize("size", [*range(1, 24), 32, 40, 52])
@pytest.mark.parametrize("text", [f"sk-{TOKENS[-1]}-----BEGIN  ", f".sk-xoxb-1234567890-abc{PEM}"])
def test_shapes_that_lie_across_each_other_are_hidden_as_one_however_they_are_cut(text: str, size: int) -> None:
    stream = Redactor().stream()

    found = "".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size)) + stream.flush()

    assert one_mask(found) == one_mask(Redactor().text(text))


def test_a_private_key_that_never_ends_does_not_swallow_everything() -> None:
    stream = Redactor().stream()
    out = [stream.feed("-----BEGIN PRIVATE KEY-----\n")]
    out += [stream.feed("A" * 1_000 + "\n") for _ in range(200)]
    out += [stream.feed("the end\n"), stream.flush()]

    found = "".join(out)
    assert found.startswith(MASK)
    assert found.endswith("the end\n")


def test_what_is_safe_is_not_held_back() -> None:
    stream = Redactor([SECRET]).stream()

    assert stream.feed("a whole line\n") == "a whole line\n"
    assert stream.feed("a prompt> ") == "a prompt> "


KEY = "-----BEGIN PRIVATE KEY-----"
HOSTILE: dict[str, str] = {
    "keys that never end": f"{KEY}\n",
    "long keys that never end": f"{KEY}{'A' * 70_000}",
    "keys and ends": f"{KEY}-----END PRIVATE KEY-----",
    "ends": "-----END PRIVATE KEY-----",
    "beginnings of no key": "-----BEGIN ",
    "keys of a long kind": f"-----BEGIN {'A' * 39}PRIVATE KEY-----",
    "one word of tokens": "sk-",
    "web tokens in one run": "eyJ-",
    "web tokens with dots": f"eyJ{'a' * 10}.",
    "web tokens that lack the last part": f"eyJ{'a' * 10}-.eyJ{'b' * 10}-. ",
    "addresses": "://",
    "users without a host": "://a:a",
    "one long word": "a",
    "words, then one": f"{'b ' * 10}{'a' * 4_000}",
    "short tokens": "ghp_ gho_ acm_ npm_ hf_ xoxb- AKIA ",
    "a value that repeats": "z",
    "values that begin alike": "common-beginning-",
}
HUGE = ["z" * 100_000, "\n".join(f"common-beginning-{number:06}" for number in range(2_000)), SECRET]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_looked_at_grows_with_the_text_and_not_with_its_square(name: str, is_stream: bool) -> None:
    def seen(size: int) -> int:
        redactor = Redactor(HUGE)
        text = (HOSTILE[name] * (size // len(HOSTILE[name]) + 1))[:size]
        if is_stream:
            stream = redactor.stream()
            for at in range(0, size, 4_096):
                stream.feed(text[at : at + 4_096])
            stream.flush()
        else:
            redactor.rest(text)
        return redactor.seen

    small, large = seen(30_000), seen(120_000)
    assert large < 4 * small + 20 * 120_000  # of four times the text four times as much, and what a key may hide
    assert large < 3 * PIECE_CHARS * 120_000


def test_a_huge_value_is_found_and_costs_no_more_memory_than_a_few_of_it() -> None:
    chance = random.Random(1)
    value = "".join(chance.choice(string.ascii_letters) for _ in range(128 << 10))
    tracemalloc.start()
    redactor = Redactor([value])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert set(redactor.text(f"a {value} b")) == set(f"a {MASK} b")
    assert value[40_000:41_024] not in redactor.text(value[40_000:42_000])
    assert peak_bytes < 300 * len(value)


def test_the_rest_of_a_private_key_stays_hidden_whatever_else_begins_in_it() -> None:
    stream = Redactor().stream()
    fed = [f"{KEY}\nMIIEfirst\n-----BEGIN CERTIFICATE-----\n", "MIIEsecond\n", "-----END PRIVATE KEY-----\nafter\n"]

    assert "".join(map(stream.feed, fed)) + stream.flush() == f"{MASK}\nafter\n"


@given(st.data())
@settings(max_examples=50)
def test_in_place_everything_keeps_its_length_however_it_is_cut(data: st.DataObject) -> None:
    raw = bytes(40) + SECRET.encode() + b"\xff\0" + SECRET.encode() + SECRET.encode() + bytes(3)
    whole, size = raw.decode("latin-1"), len(SECRET.encode())
    stream, out, left = Redactor([SECRET]).stream(shapes=False, in_place=True), "", whole
    while left:
        cut = data.draw(st.integers(1, len(left)))
        out += stream.feed(left[:cut])
        left = left[cut:]
    out += stream.flush()

    assert out.encode("latin-1") == bytes(40) + b"*" * size + b"\xff\0" + b"*" * (2 * size) + bytes(3)


def test_what_is_learnt_is_hidden_at_once_in_streams_too_until_it_is_forgotten_by_all_who_know_it() -> None:
    redactor = Redactor(["first-secret"])
    stream = redactor.stream()
    begun = stream.feed("a word, then ")
    redactor.learn("one", ["second-secret", "third-secret"])
    redactor.learn("two", ["third-secret"])

    said = begun + stream.feed("second-sec") + stream.feed("ret and first-secret.") + stream.flush()
    assert said == "a word, then [secret] and [secret]."
    redactor.forget("one")
    redactor.forget("nobody")
    assert redactor.text("second-secret third-secret") == "second-secret [secret]"
    redactor.forget("two")
    assert redactor.text("third-secret first-secret") == "third-secret [secret]"


def test_large_values_are_found_on_another_thread_and_forgotten_with_the_last_of_them() -> None:
    chance = random.Random(1)
    large, small = ("".join(chance.choices(string.ascii_letters, k=size)) for size in (32 << 10, 20))
    redactor = Redactor(["first-secret"])
    redactor.begin("one", [large])
    wanted = redactor.wanted
    before, values = redactor.text(large), Values(wanted)
    adopted = redactor.adopt(wanted, values)

    assert (before, adopted) == (large, True)
    assert set(redactor.text(large)) == set(MASK)
    redactor.learn("two", [small, large])
    redactor.forget("two")
    assert set(redactor.text(large)) == set(MASK), "another one still has it"
    redactor.forget("one")
    assert redactor.text(f"{large} first-secret") == f"{large} {MASK}"


def test_values_of_what_was_wanted_before_are_not_adopted() -> None:
    redactor = Redactor()
    redactor.begin("one", ["a-secret-value"])
    wanted = redactor.wanted
    redactor.forget("one")
    redactor.learn("two", ["another-secret"])

    assert not redactor.adopt(wanted, Values(wanted))
    assert redactor.text("a-secret-value another-secret") == f"a-secret-value {MASK}"
