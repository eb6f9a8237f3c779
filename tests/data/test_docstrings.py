import sysconfig

from rbs_jax.data.docstrings import SHORTEST, read_docstrings

LONG = "A docstring as long as asked for. ".ljust(SHORTEST, ".")


def test_long_docstrings_of_every_kind_of_definition_are_found_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", {"purelib": str(tmp_path)}.get)
    (tmp_path / "package" / "sub").mkdir(parents=True)
    definitions = [
        f'"""Module {LONG}"""\n',
        f'class A:\n    """Class {LONG}"""\n\n    def f():\n        """Method {LONG}"""\n',
        f'async def g():\n    """Async {LONG}"""\n',
        f'def again():\n    """Module {LONG}"""\n',
        f'def short():\n    """{LONG[:-1]}"""\n',
        f'text = """Not a docstring {LONG}"""\n',
    ]
    (tmp_path / "package" / "a.py").write_text("\n".join(definitions))
    (tmp_path / "package" / "broken.py").write_text("def (:")
    (tmp_path / "package" / "sub" / "b.py").write_text(f'"""Module {LONG}"""\n')
    (tmp_path / "package" / "sub" / "c.py").write_text(f'"""{LONG}"""\nraise SystemExit\n')
    found = read_docstrings({"a": ["package", "package"]})["a"]
    prefixes = ["Module ", "Class ", "Async ", "Method ", ""]
    assert sorted(found) == sorted(prefix + LONG for prefix in prefixes)


def test_a_package_that_is_not_installed_has_none():
    assert read_docstrings({"a": ["no_such_package"]}) == {"a": []}


def test_the_standard_library_has_many_long_distinct_ones():
    found = read_docstrings({"a": ["stdlib"]})["a"]
    assert len(found) > 500
    assert len(set(found)) == len(found)
    assert all(len(text) >= SHORTEST for text in found)
    "".join(found).encode("utf-8")
