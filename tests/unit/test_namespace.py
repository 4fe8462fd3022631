"""Which names are the user's, and the interactive state around them, in a real IPython shell."""

from __future__ import annotations

import sys
from typing import Any

import interactive
import pytest

from checkpoint_kernel import namespace
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
    assert {s.name for s in chosen.skipped} == {"Out[1]", "#hidden"}


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
