"""Which names are the user's, and the interactive state around them, in a real IPython shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import interactive
import pytest

from checkpoint_kernel import namespace, restore
from checkpoint_kernel.secrets_rules import Rules

pytestmark = pytest.mark.unit


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    return interactive.new_shell()


def selected(shell: Any, *exclude: str) -> namespace.Selection:
    return namespace.select(shell.user_ns, shell.user_ns_hidden, Rules(exclude))


def test_a_fresh_namespace_holds_nothing_of_the_users(shell: Any) -> None:
    assert selected(shell).roots == {}


def test_variables_and_outputs_are_the_users(shell: Any) -> None:
    interactive.run(shell, "x = 1", "x + 1", "_private = 2")
    assert selected(shell).roots == {"x": 1, "_private": 2, "Out[2]": 2}


@pytest.mark.parametrize("name", ["In", "Out", "_", "__", "_i", "_i1", "_2", "_oh", "get_ipython"])
def test_ipythons_own_names_are_not(shell: Any, name: str) -> None:
    interactive.run(shell, "1", "2")
    assert name not in selected(shell).roots


def test_a_hidden_name_is_the_users_once_it_has_another_value(shell: Any) -> None:
    shell.user_ns["tool"] = shell.user_ns_hidden["tool"] = object()
    assert "tool" not in selected(shell).roots
    interactive.run(shell, "tool = 5")
    assert selected(shell).roots["tool"] == 5


@pytest.mark.parametrize("name", ["password", "db_password", "API_KEY", "hf_token", "token"])
def test_text_that_looks_like_a_secret_is_skipped_with_its_reason(shell: Any, name: str) -> None:
    interactive.run(shell, f"{name} = 'hunter2'")
    chosen = selected(shell)
    assert name not in chosen.roots
    assert [(s.name, s.reason) for s in chosen.skipped] == [(name, "its name looks like a secret")]


def test_data_under_a_name_like_a_secrets_is_data(shell: Any) -> None:
    interactive.run(shell, "token = [1, 2]; tokens = 'a b'; tokenizer = 'bpe'")
    assert set(selected(shell).roots) == {"token", "tokens", "tokenizer"}


def test_what_the_config_excludes_is_skipped_and_names_the_pattern(shell: Any) -> None:
    interactive.run(shell, "tmp_a = 1; b = 2")
    chosen = selected(shell, "tmp_*")
    assert set(chosen.roots) == {"b"}
    assert chosen.skipped[0].reason == "excluded by the pattern 'tmp_*'"


def test_keys_that_are_no_names_do_no_harm(shell: Any) -> None:
    shell.user_ns[5] = "five"
    shell.user_ns["Out[1]"] = "not an output"
    shell.user_ns["#hidden"] = "not a hidden unit"
    chosen = selected(shell)
    assert chosen.roots == {}
    assert {s.name for s in chosen.skipped} == {"5", "Out[1]", "#hidden"}


def test_a_restored_output_has_its_number_and_its_variable_again(shell: Any) -> None:
    namespace.bind(shell.user_ns, "Out[7]", "seven")
    namespace.restore_last_outputs(shell)
    assert shell.user_ns["Out"][7] == shell.user_ns["_7"] == shell.user_ns["_"] == "seven"


def test_outputs_under_keys_that_are_no_numbers_do_no_harm(shell: Any) -> None:
    interactive.run(shell, "1", "Out['mine'] = 5")
    namespace.restore_last_outputs(shell)
    assert shell.user_ns["_"] == 1


def test_a_value_is_found_by_the_name_it_was_selected_by(shell: Any) -> None:
    interactive.run(shell, "x = [1]", "x")
    for name, value in selected(shell).roots.items():
        assert namespace.value_of(shell.user_ns, name) is value
        assert namespace.identity(shell.user_ns, name) == id(value)
    assert namespace.identity(shell.user_ns, "Out[99]") is None
    assert namespace.identity(shell.user_ns, "gone") is None


class TestInteractiveState:
    CELLS = ("a = 1", "def f():\n    return a", "%config InteractiveShell.autocall", "f()")

    @pytest.fixture
    def twins(self, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
        """A shell that went on, and one that was born again with the other's state."""
        monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        lived, reborn = interactive.new_shell(), interactive.new_shell()
        interactive.run(lived, *self.CELLS)
        namespace.restore_interactive_state(reborn, namespace.interactive_state(lived))
        return lived, reborn

    def test_numbering_goes_on(self, twins: tuple[Any, Any]) -> None:
        lived, reborn = twins
        assert reborn.execution_count == lived.execution_count == 5

    @pytest.mark.parametrize("name", ["In", "_i", "_ii", "_iii", "_i1", "_i2", "_i3", "_i4"])
    def test_inputs_are_what_they_were(self, twins: tuple[Any, Any], name: str) -> None:
        lived, reborn = twins
        assert reborn.user_ns[name] == lived.user_ns[name]

    @pytest.mark.parametrize("name", ["_i", "_ii", "_iii", "_i5"])
    def test_inputs_move_on_with_the_next_cell(self, twins: tuple[Any, Any], name: str) -> None:
        lived, reborn = twins
        for shell in twins:
            interactive.run(shell, "seen = {n: globals()[n] for n in ('_i', '_ii', '_iii', '_i5')}")
        assert reborn.user_ns["seen"][name] == lived.user_ns["seen"][name]
        assert reborn.user_ns["seen"]["_i"] == "f()"


ODD_CELLS = (
    "__version__ = '1'; __all__ = ['x']; __author__ = 'me'; _private = 1; __dunder = 2",
    "In_ = 1; exit = 5; open = lambda path: path; _exit_code = 'mine'",
    "for _ in range(3): pass",
    "_1 = 'mine'; _i = 7; _i2 = 8",
    "1 + 1",
    "_5 = 'mine too'; __ = 'and this'",
    "'A docstring'\nx: int = 1",
    "globals()[3] = 'three'; globals()[(1, 2)] = 'pair'; Out['mine'] = 5",
    "globals()['not a name'] = 1; globals()['Out[9]'] = 2; globals()['#x'] = 3",
    "class __Meta(type): pass",
    "gen = (i for i in [1] * 3)",
    "import threading as t; lock_of_mine = t.Lock(); api_key = 'k'",
    "_, (__, *___) = iter(['ab', ('c', 'd')])",
    "'a'; 'last'",
)


@pytest.mark.parametrize("count", range(1, len(ODD_CELLS) + 1))
def test_whatever_the_user_binds_is_saved_or_named(shell: Any, count: int, tmp_path: Path) -> None:
    """User names == saved names + names that are not saved, cell by cell."""
    before = dict(shell.user_ns)
    interactive.run(shell, *ODD_CELLS[:count])
    live, outputs = shell.user_ns, shell.user_ns["_oh"]
    bound = {name for name, value in live.items() if before.get(name, live) is not value}
    inputs = {n for n in bound if str(n).startswith("_i") and isinstance(live[n], str)}
    of_ipython = {f"_{n}" for n in outputs if live.get(f"_{n}") is outputs[n]}
    of_ipython |= {
        n for n in ("_", "__", "___") if any(live.get(n) is value for value in outputs.values())
    }
    as_told = {name: str(name) for name in bound} | {(1, 2): "a tuple"}
    expected = {as_told[name] for name in bound - inputs - of_ipython}
    expected |= {f"Out[{number!r}]" for number in outputs}
    saved = interactive.save(shell, interactive.new_store(tmp_path))
    named = {one.name for one in saved.skipped}
    assert {*saved.names, *named} == expected
    assert not named & set(saved.names)


def test_what_the_user_has_called_as_the_shell_calls_its_own_is_back(
    shell: Any, tmp_path: Path
) -> None:
    interactive.run(shell, "1 + 1", "_1 = 'mine'; exit = 5; _ = 'me'; __version__ = '1'")
    store = interactive.new_store(tmp_path)
    saved = interactive.save(shell, store)
    reborn = interactive.new_shell()
    restore.on_request(reborn, store, saved, ["_", "_1", "exit", "__version__", "Out[1]"])
    found = {name: reborn.user_ns[name] for name in ("_", "_1", "exit", "__version__")}
    assert found == {"_": "me", "_1": "mine", "exit": 5, "__version__": "1"}
    assert reborn.user_ns["Out"] == {1: 2}


def test_the_name_of_the_module_is_named_and_not_saved(shell: Any) -> None:
    shell.user_ns_hidden["__name__"] = shell.user_ns["__name__"]
    assert selected(shell).skipped == []
    shell.user_ns["__name__"] = "other"
    (skipped,) = selected(shell).skipped
    assert (skipped.name, skipped.remedy) == ("__name__", "set it again")


def test_names_that_are_hidden_after_the_start_are_saved(shell: Any) -> None:
    at_start = dict(shell.user_ns_hidden)
    shell.push({"array": list}, interactive=False)  # as %pylab does
    assert "array" in namespace.select(shell.user_ns, at_start, Rules()).roots
