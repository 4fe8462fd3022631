"""Two graph algorithms on objects by identity: what is connected, and what is in a cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Node = TypeVar("Node")


def components(edges: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """Connected components, members in the order in which they were first met."""
    parent: dict[int, int] = {}
    nodes: dict[int, Node] = {}

    def find(x: int) -> int:
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for a, b in edges:
        for node in (a, b):
            parent.setdefault(id(node), id(node))
            nodes[id(node)] = node
        parent[find(id(b))] = find(id(a))
    groups: dict[int, list[Node]] = {}
    for key in parent:
        groups.setdefault(find(key), []).append(nodes[key])
    return list(groups.values())


def strong_components(nodes: list[Node], needs: dict[int, list[Node]]) -> Iterator[list[Node]]:
    """Tarjan's strongly connected components, without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[Node] = []
    on_stack: set[int] = set()
    for start in nodes:
        if id(start) in index:
            continue
        work = [(start, iter(needs[id(start)]))]
        index[id(start)] = low[id(start)] = len(index)
        stack.append(start)
        on_stack.add(id(start))
        while work:
            node, successors = work[-1]
            step = next(successors, None)
            if step is None:
                work.pop()
                if work:
                    above = id(work[-1][0])
                    low[above] = min(low[above], low[id(node)])
                if low[id(node)] == index[id(node)]:
                    cut = stack.index(node)
                    component, stack[cut:] = stack[cut:], []
                    on_stack.difference_update(id(member) for member in component)
                    yield component
            elif id(step) not in index:
                index[id(step)] = low[id(step)] = len(index)
                stack.append(step)
                on_stack.add(id(step))
                work.append((step, iter(needs[id(step)])))
            elif id(step) in on_stack:
                low[id(node)] = min(low[id(node)], index[id(step)])
