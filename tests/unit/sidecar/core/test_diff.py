import pytest

from sidecar.core.diff import Change, matches, read_patch, whole_file

PATCH = r"""diff --git a/src/a.py b/src/a.py
index 83db48f..bf2a5f1 100644
--- a/src/a.py
+++ b/src/a.py
@@ -3 +3,2 @@ def a():
-    return 1
+    return 2
+    # diff --git a/x b/x
@@ -9,0 +11 @@ def b():
++++ added
diff --git a/gone b/gone
deleted file mode 100644
index 83db48f..0000000
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
--- a
\ No newline at end of file
diff --git "a/t\303\244st \"x\".py" "b/t\303\244st \"x\".py"
new file mode 100644
index 0000000..83db48f
--- /dev/null
+++ "b/t\303\244st \"x\".py"
@@ -0,0 +1 @@
+x
diff --git a/logo b/logo
index 83db48f..bf2a5f1 100644
Binary files a/logo and b/logo differ
diff --git a/link b/link
new file mode 120000
index 0000000..83db48f
--- /dev/null
+++ b/link
@@ -0,0 +1 @@
+/etc/passwd
diff --git a/run b/run
old mode 100644
new mode 100755
"""


def test_a_patch_is_read_line_by_line_whatever_its_lines_look_like() -> None:
    assert read_patch(PATCH) == (
        Change(
            "src/a.py", ((3, "    return 2"), (4, "    # diff --git a/x b/x"), (11, "+++ added")), ("    return 1",)
        ),
        Change("gone", removed=("-- a",), is_gone=True),
        Change('täst "x".py', ((1, "x"),), is_new=True),
        Change("logo", is_opaque=True),
        Change("link", ((1, "/etc/passwd"),), is_new=True, is_opaque=True),
        Change("run"),
    )


def test_no_patch_is_no_change() -> None:
    assert read_patch("") == ()


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"a\nb", Change("f", ((1, "a"), (2, "b")), is_new=True)),
        (b"", Change("f", is_new=True)),
        (b"\xff\n", Change("f", ((1, "\ufffd"),), is_new=True)),
        (b"a\0b", Change("f", is_new=True, is_opaque=True)),
        (b"12345", Change("f", is_new=True, is_opaque=True)),
    ],
)
def test_a_new_file_is_all_added_if_it_is_text_of_a_reasonable_size(content: bytes, expected: Change) -> None:
    assert whole_file("f", content, limit_bytes=4) == expected


@pytest.mark.parametrize(
    "pattern, path, fits",
    [
        ("*.lock", "uv.lock", True),
        ("*.lock", "deep/down/uv.lock", True),
        (".github/**", ".github/workflows/ci.yml", True),
        (".github/", ".github/workflows/ci.yml", True),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/b/a.py", False),
        ("src/**/*.py", "src/a.py", True),
        ("src/**/*.py", "src/b/c/a.py", True),
        ("**/tests/**", "tests/a.py", True),
        ("**/tests/**", "x/tests/a/b.py", True),
        ("a?.py", "ab.py", True),
        ("a+.py", "aa.py", False),
        ("Makefile", "Makefile", True),
        ("Makefile", "Makefile.old", False),
    ],
)
def test_patterns_stay_within_a_folder_unless_they_say_otherwise(pattern: str, path: str, fits: bool) -> None:
    assert matches(path, ["none", pattern]) == (pattern if fits else "")
