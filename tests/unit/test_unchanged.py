"""What code may have touched since the newest checkpoint, whatever goes wrong while it is read."""

from __future__ import annotations

from typing import Any

import pytest

from checkpoint_kernel import unchanged
from checkpoint_kernel.touched import Touched, by_python, by_text
from checkpoint_kernel.unchanged import Touches

pytestmark = pytest.mark.unit


@pytest.fixture
def touches() -> Touches:
    """After a cell."""
    touches = Touches()
    touches.begin("rows.append(1)")
    touches.becomes("rows.append(1)", "rows.append(1)\n")
    touches.end()
    return touches


def fail_once(monkeypatch: pytest.MonkeyPatch, why: BaseException) -> None:
    """Reading a text with `rows` in it raises, the first time."""
    failures = [why]

    def failing(read: Any) -> Any:
        def reading(text: str) -> Touched:
            if "rows" in text and failures:
                raise failures.pop()
            return read(text)

        return reading

    monkeypatch.setattr(unchanged, "by_text", failing(by_text))
    monkeypatch.setattr(unchanged, "by_python", failing(by_python))


class TestReading:
    def test_a_ctrl_c_loses_no_text(
        self, touches: Touches, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail_once(monkeypatch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            touches.taken()
        touches.add("z = 1")
        assert touches.taken().names >= {"rows", "z"}

    @pytest.mark.parametrize("why", [ValueError("x"), RecursionError(), MemoryError()])
    def test_a_text_that_cannot_be_read_may_have_touched_everything_and_is_read_again(
        self, touches: Touches, monkeypatch: pytest.MonkeyPatch, why: Exception
    ) -> None:
        fail_once(monkeypatch, why)
        touches.add("z = 1")
        taken = touches.taken()
        assert taken.blind is not None
        assert not taken.lasting
        assert "z" in taken.names
        touches.committed()
        assert touches.taken().names == {"rows", "append"}
        touches.committed()
        assert touches.taken() == Touched()

    def test_a_text_that_never_can_be_read_may_touch_everything_for_ever(
        self, touches: Touches, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touches.add("deep" + ".x" * 20_000)
        for _ in range(3):
            assert touches.taken().blind is not None
            touches.committed()

    def test_a_cell_counts_before_and_after_a_fork_in_it(self) -> None:
        touches = Touches()
        touches.begin("rows")
        assert "rows" in touches.taken().names
        touches.committed()
        touches.end()
        assert "rows" in touches.taken().names
        touches.committed()
        assert "rows" not in touches.taken().names

    def test_what_failed_to_be_saved_is_still_touched(self, touches: Touches) -> None:
        assert "rows" in touches.taken().names
        assert "rows" in touches.taken().names

    def test_a_ctrl_c_while_a_cell_is_transformed_loses_no_text(self) -> None:
        """The hook that tells of it swallows Ctrl-C, and the cell begins."""

        class Interrupting(list[Any]):
            def append(self, one: Any) -> None:
                raise KeyboardInterrupt

        touches = Touches()
        touches.begin("rows.append(1)")
        touches._since = Interrupting(touches._since)
        with pytest.raises(KeyboardInterrupt):
            touches.becomes("rows.append(1)", "rows.append(1)\n")
        touches.end()
        assert "rows" in touches.taken().names
