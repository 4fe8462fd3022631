"""What looks like a secret is not saved, costs nothing beside itself, and is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import interactive
import pytest
from notebook_namespace import Notebook

from checkpoint_kernel import hiding, restore, secrets_rules, secrets_search
from checkpoint_kernel.secrets_rules import Rules
from checkpoint_kernel.stub import NotBackError, Stub

pytestmark = pytest.mark.unit

KEY = "sk-a1B2c3D4e5F6"


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "api_key", "OPENAI_API_KEY", "hf_token", "token", "passphrase",
     "aws_secret_access_key", "private_key_pem", "google_credentials", "auth_header",
     "bearer_value", "connection_string", "db_dsn", "Authorization", "x-api-key"],
)  # fmt: skip
def test_a_name_that_looks_like_a_secret(name: str) -> None:
    assert secrets_rules.is_secret_name(name)
    assert Rules().secret(name, "hunter2") == "its name looks like a secret"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer", "bpe"), ("tokens", "a b c"), ("n_tokens", "12"), ("max_tokens", "9"),
        ("eos_token", "</s>"), ("pad_token", "[PAD]"), ("mask_token", "<mask>"),
        ("sep_token", "x"), ("max_token", 512), ("token", ["a", "b"]), ("password", None),
        ("password", ""), ("author", "me"), ("secretary", 5), ("keyboard", "qwerty"),
        ("text", "ftp://example.org/a:b@c"), ("url", "https://user@example.org/path"),
    ],
)  # fmt: skip
def test_what_is_data(name: str, value: object) -> None:
    assert Rules().secret(name, value) is None


class Text(str):
    pass


@pytest.mark.parametrize("value", ["hunter2", b"hunter2", bytearray(b"hunter2"), Text("hunter2")])
def test_all_kinds_of_text_are_secret(value: object) -> None:
    assert Rules().secret("password", value) is not None


def test_an_address_with_a_password_is_secret_under_any_name() -> None:
    said = Rules().secret("where", "postgresql://me:hunter2@db.example.org/data")
    assert said == "it is an address with a password in it"


def test_include_saves_what_looks_like_a_secret_and_exclude_wins_over_it() -> None:
    rules = Rules(exclude=("pass*",), include=("*word", "api_key"))
    assert rules.secret("api_key", KEY) is None
    assert rules.excluded("password") == "pass*"


class TestEnvironment:
    ENVIRONMENT: ClassVar = {
        "OPENAI_API_KEY": KEY, "HOME": "/home/somebody", "LOGIN_PASSWORD": "password",
        "PIN_SECRET": "12345678", "SHORT_TOKEN": "abc", "MODE": "production",
        "GOOGLE_APPLICATION_CREDENTIALS": "/etc/key.json",
    }  # fmt: skip
    RULES = secrets_rules.of((), (), ENVIRONMENT, lambda path: path == "/etc/key.json")

    def test_only_what_is_long_telling_and_no_file_is_known(self) -> None:
        assert self.RULES.known == {KEY}

    @pytest.mark.parametrize("text", [KEY, f"https://x.org/?key={KEY}&a=b", KEY.encode()])
    def test_it_is_found_whole_and_inside_a_text(self, text: object) -> None:
        assert self.RULES.secret("anything", text) == "it holds the value of a secret"

    def test_other_values_of_the_environment_are_data(self) -> None:
        assert self.RULES.secret("home", "/home/somebody") is None
        assert self.RULES.secret("word", "password") is None


class TestInsideObjects:
    def reasons(self, value: object) -> list[str]:
        return [part.reason for part in secrets_search.parts(value, Rules())]

    @pytest.mark.parametrize(
        "value",
        [
            {"password": "hunter2"},
            {"a": [({"db": {"password": "hunter2"}},)]},
            [{"password": b"hunter2"}, {"password": ""}],
            {"password": ["hunter2"]},
        ],
    )
    def test_builtin_containers_are_looked_through(self, value: object) -> None:
        assert self.reasons(value) == ["text under 'password' looks like a secret"]

    def test_attributes_defaults_and_closures_are_looked_at(self) -> None:
        class Account:
            def __init__(self) -> None:
                self.user, self.password = "me", "hunter2"

        def connect(host: str, password: str = "hunter2", *, api_key: str = KEY) -> None: ...

        def make(password: str) -> Any:
            return lambda: password

        assert len(self.reasons(Account())) == 1
        assert len(self.reasons(connect)) == 2
        assert len(self.reasons([make("hunter2")])) == 1

    def test_words_of_a_text_are_no_tokens(self) -> None:
        assert self.reasons([{"token": "the", "tag": "DT"}, {"eos_token": "</s>" * 9}]) == []
        assert self.reasons({"token": "ghp_0123456789abcdef"}) != []

    def test_no_code_of_an_object_is_run(self) -> None:
        class Trap(dict):  # type: ignore[type-arg]
            def _no(self, *_: object) -> Any:
                raise AssertionError("it was called")

            items = keys = __iter__ = __len__ = __getattribute__ = __getitem__ = _no  # type: ignore
            __class__ = property(_no)  # type: ignore[assignment]
            __dict__ = property(_no)  # type: ignore[assignment]

        trap = Trap()
        dict.__setitem__(trap, "password", "hunter2")
        assert len(self.reasons(trap)) == 1

    def test_it_ends(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        assert self.reasons([endless, list(range(1_000_000))]) == []


class Saved:
    """A namespace that was saved into a store, and what is in it."""

    def __init__(self, directory: Path, *cells: str, **options: Any) -> None:
        self.shell = interactive.new_shell()
        interactive.run(self.shell, *cells)
        self.store = interactive.new_store(directory)
        self.manifest = interactive.save(self.shell, self.store, **options)
        self.skipped = {one.name: one.reason for one in self.manifest.skipped}
        self.partly = {one.name: one.reason for one in self.manifest.partly}

    def back(self) -> dict[str, Any]:
        return restore.load({"__name__": "__main__"}, self.store, self.manifest).values

    def holds(self, text: str) -> bool:
        """Whether a payload does; the cells' texts are saved as they stand."""
        return any(
            text.encode() in bytes(self.store.read_payload(unit.payload).stream)
            for unit in self.manifest.units
            if unit.kind != "session"
        )


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setenv("SOME_API_KEY", KEY)


@pytest.mark.usefixtures("main")
class TestSaving:
    def test_a_dict_is_saved_without_the_one_text_and_named(self, tmp_path: Path) -> None:
        saved = Saved(tmp_path, "config = {'host': 'db', 'password': 'admin', 'user': 'admin'}")
        assert saved.partly == {"config": "text under 'password' looks like a secret"}
        config = saved.back()["config"]
        assert (config["host"], config["user"]) == ("db", "admin")
        assert isinstance(config["password"], Stub)
        with pytest.raises(NotBackError, match="set it again, or add it to `include`"):
            len(config["password"])

    def test_the_environments_secrets_are_found_wherever_they_are(self, tmp_path: Path) -> None:
        saved = Saved(
            tmp_path,
            "import os\nsecret_free = [1]\ncopy = os.environ['SOME_API_KEY']",
            "class Session:\n    def __init__(self): self.h = [{'x': ('Bearer ' + copy,)}]",
            "session = Session(); words = {'deep': [[[[[[[[[[copy]]]]]]]]]]}",
            "def f(x=copy): return x\nfrozen = frozenset([copy])\neverything = dict(os.environ)",
            "copy",
        )
        assert saved.skipped["copy"] == "it holds the value of a secret"
        assert "Out[5]" in saved.skipped
        assert {"session", "words", "f", "frozen", "everything"} <= saved.partly.keys()
        assert not saved.holds(KEY)
        back = saved.back()
        assert back["secret_free"] == [1]
        assert back["everything"]["PATH"]

    def test_the_text_of_a_secret_variable_is_a_secret_elsewhere_too(self, tmp_path: Path) -> None:
        saved = Saved(
            tmp_path,
            "early = {'x': 'h-u-n-t-e-r-2'}\npassword = 'h-u-n-t-e-r-2'",
            "url = f'https://x.org/?p={password}'\npassword",
        )
        assert saved.skipped.keys() == {"password", "url", "Out[2]"}
        assert "early" in saved.partly
        assert not saved.holds("h-u-n-t-e-r-2")

    def test_the_environment_itself_is_that_of_whoever_loads_it(self, tmp_path: Path) -> None:
        saved = Saved(tmp_path, "import os\nenvironment = os.environ\npair = [os.environ, 1]")
        assert not saved.holds("SOME_API_KEY")
        assert saved.back()["environment"] is os.environ
        assert saved.skipped == saved.partly == {}

    def test_a_common_word_as_a_secret_spoils_nothing_else(self, tmp_path: Path) -> None:
        saved = Saved(tmp_path, "secret_santa = 'Christmas'; days = ['Christmas', 'Easter']")
        assert saved.skipped.keys() == {"secret_santa"}
        assert saved.back()["days"] == ["Christmas", "Easter"]

    def test_an_output_that_shows_a_short_secret_is_left_out(self, tmp_path: Path) -> None:
        saved = Saved(tmp_path, "password = 'short'", "password")
        assert saved.skipped["Out[2]"] == "it is the text of password, which is left out"

    def test_included_variables_are_saved_as_they_are(self, tmp_path: Path) -> None:
        saved = Saved(
            tmp_path,
            "config = {'password': 'hunter2'}; api_key = 'sk-12345678'; other = [api_key]",
            include=("config", "api_key"),
        )
        back = saved.back()
        assert (back["config"], back["api_key"]) == ({"password": "hunter2"}, "sk-12345678")
        assert back["other"] == ["sk-12345678"]
        assert saved.skipped == saved.partly == {}

    def test_two_that_share_an_object_with_a_secret_share_it_afterwards(
        self, tmp_path: Path
    ) -> None:
        saved = Saved(tmp_path, "a = {'password': 'hunter2', 'x': []}; b = [a]")
        back = saved.back()
        assert back["b"][0] is back["a"]
        assert saved.partly.keys() == {"a", "b"}

    def test_an_object_whose_class_has_a_reduce_keeps_no_secret(self, tmp_path: Path) -> None:
        saved = Saved(
            tmp_path,
            "import os\nclass C:\n    def __init__(self, k): self.k = k\n"
            "    def __reduce__(self): return (C, (self.k,))\n"
            "c = C(os.environ['SOME_API_KEY'])",
        )
        assert not saved.holds(KEY)
        assert isinstance(saved.back()["c"].k, Stub)

    @pytest.mark.parametrize(
        "cell",
        [
            "class M:\n    password = '{}'",
            "class M:\n    def f(self, host, password='{}'): return password",
            "def f(password='{}'): return password",
            "def f(host, *, password='{}'): return password",
            "def make(password): return lambda: password\nf = make('{}')",
            "class R:\n    def __init__(self, p): self.password = p\n"
            "    def __reduce__(self): return (R, (self.password,))\nr = R('{}')",
            "import types; n = types.SimpleNamespace(password='{}')",
            "import types; n = types.MappingProxyType({{'password': '{}'}})",
            "import collections\nT = collections.namedtuple('T', 'user password')\n"
            "t = T('me', '{}')",
            "from typing import NamedTuple\n"
            "class T(NamedTuple):\n    user: str; password: str = '{}'\nt = T('me')",
            "import functools; p = functools.partial(print, password='{}')",
            "import collections; d = collections.deque([{{'password': '{}'}}])",
            "import enum\nclass E(enum.Enum):\n    PASSWORD = '{}'\n    OTHER = 'x'\n"
            "e = E.PASSWORD",
            "pairs = [('password', '{}'), ('user', 'me')]",
            "class P:\n    @staticmethod\n    def f(password='{}'): ...",
            "class S:\n    __slots__ = ('password',)\ns = S(); s.password = '{}'",
            "rows = [{{'n': [i]}} for i in range(8000)]; rows.append({{'password': '{}'}})",
            "a = {{'password': '{}'}}\nclass H:\n    def __init__(self, x): self.x = x\n"
            "h = H(['see ' + a['password']])",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("text", ["hunter-2-hunter", "sh0rt"])
    def test_no_kind_of_object_keeps_a_secret_in_silence(
        self, tmp_path: Path, cell: str, text: str
    ) -> None:
        if text == "sh0rt" and "'see '" in cell:
            pytest.skip("part of a text")
        saved = Saved(tmp_path, cell.format(text))
        assert not saved.holds(text)
        assert saved.partly or saved.skipped
        saved.back()

    def test_each_of_many_rows_is_saved_without_its_secret(self, tmp_path: Path) -> None:
        saved = Saved(
            tmp_path, "rows = [{'n': i, 'password': f'pass-of-{i}'} for i in range(6000)]"
        )
        assert not saved.holds("pass-of-")
        assert saved.partly.keys() == {"rows"}
        rows = saved.back()["rows"]
        assert [row["n"] for row in rows] == list(range(6000))

    def test_a_function_keeps_its_other_defaults_and_the_names_of_its_parameters(
        self, tmp_path: Path
    ) -> None:
        saved = Saved(tmp_path, "def f(user='password', password='password'): return user")
        f = saved.back()["f"]
        assert f() == "password"
        assert isinstance(f.__defaults__[1], Stub)
        assert f.__code__.co_varnames == ("user", "password")

    def test_a_class_whose_attribute_is_left_out_keeps_the_others(self, tmp_path: Path) -> None:
        saved = Saved(tmp_path, "class M:\n    password = 'admin'\n    user = 'admin'\nm = M()")
        back = saved.back()["m"]
        assert isinstance(type(back).password, Stub)
        assert back.user == "admin"
        assert saved.partly.keys() == {"M"}

    @pytest.mark.parametrize(
        "cell",
        [
            "class R:\n    def __init__(self, p): self.password = p; self.n = len(p)\n"
            "    def __reduce__(self): return (R, (self.password,))\nr = R('hunter2')",
            "import enum\nR = enum.Enum('R', {'PASSWORD': 'hunter2'}); r = R.PASSWORD",
        ],
    )
    def test_an_object_that_uses_the_secret_when_it_is_loaded_is_left_out(
        self, tmp_path: Path, cell: str
    ) -> None:
        saved = Saved(tmp_path, cell)
        assert saved.skipped.keys() == {"r"}
        assert "a secret" in saved.skipped["r"]

    def test_what_is_too_large_to_be_searched_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for limit in ("LIMIT_S", "_LIMIT_S"):
            monkeypatch.setattr(hiding, limit, 0.0)
        saved = Saved(
            tmp_path,
            "rows = [[{'x': [i]}] for i in range(3000)] + [{'password': 'hunter2'}]",
            "numbers = [[{'x': [i]}] for i in range(3000)]",
        )
        assert saved.partly == {"rows": "it is too large to be searched for secrets to the end"}

    def test_functions_with_secrets_are_no_reason_to_refuse_who_holds_them(
        self, tmp_path: Path
    ) -> None:
        saved = Saved(
            tmp_path,
            "def f(password='a'): ...\nfs = [f]",
            "def make():\n    def g(password='hunter-2-hunter'): ...\n    return g\n"
            "many = [make() for _ in range(300)]",
        )
        assert saved.skipped == {}
        assert not saved.holds("hunter-2-hunter")
        back = saved.back()
        assert back["fs"] == [back["f"]]
        assert len(back["many"]) == 300


def test_a_text_with_a_length_of_its_own_is_searched_all_the_same() -> None:
    notebook = Notebook()
    notebook.run(
        "class Text(str):\n    def __len__(self): raise ValueError\n"
        "held = [Text('a'), {'password': Text('hunter2 hunter2')}]; good = 1"
    )
    partition = notebook.partition()
    assert "good" in {name for draft in partition.units for name in draft.root}
    assert [one.name for one in partition.partly] == ["held"]
