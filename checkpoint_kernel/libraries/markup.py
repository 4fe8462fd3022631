"""Reducers for lxml and BeautifulSoup: an element is saved as a place in its whole document.

So elements in different variables are parts of one document again.
"""

from __future__ import annotations

import gc
import io
import sys
from typing import Any

from checkpoint_kernel.refusals import Refusal, Refused, type_name
from checkpoint_kernel.registry import named_reduction

# --- lxml

_ALONE = ("_Comment", "_ProcessingInstruction", "_Entity")


def reduce_element(element: Any) -> Any:
    """The root with all of the document; any other element by its path from the root."""
    path: list[int] = []
    at = element
    while (parent := at.getparent()) is not None:
        path.append(parent.index(at))
        at = parent
    root = at.getroottree().getroot()
    if root is None:  # a comment that stands alone
        root = at
    if element is root:
        return _reduce_root(root)
    beside = 0
    if at is not root:  # a comment before or after it
        before = list(root.itersiblings(preceding=True))
        after = list(root.itersiblings())
        beside = -1 - before.index(at) if at in before else 1 + after.index(at)
    return (load_part, (root, beside, path[::-1]))


def _reduce_root(root: Any) -> Any:
    etree = sys.modules["lxml.etree"]
    kind = next((base.__name__ for base in type(root).__mro__ if base.__name__ in _ALONE), None)
    if kind is not None:
        name = root.name if kind == "_Entity" else getattr(root, "target", None)
        text = None if kind == "_Entity" else root.text
        return (load_alone, (kind, name, text, root.tail))
    source = type(root).__module__.removeprefix("lxml.")
    if source not in ("etree", "html", "objectify"):
        raise Refused(type_name(root), Refusal("its class belongs to a parser, which is not saved"))
    text = etree.tostring(root.getroottree(), encoding="utf-8", xml_declaration=False)
    made = load_root(source, text, None, root.base)
    if etree.tostring(made.getroottree(), encoding="utf-8") != text:
        raise Refused(type_name(root), Refusal("as text it would be another document"))
    return (load_root, (source, text, root.tail, root.base))


def load_root(source: str, text: bytes, tail: str | None, base: str | None) -> Any:
    """The root of a document; `source` is whose elements it has: etree, html or objectify."""
    import lxml.etree

    exactly: dict[str, Any] = {
        "remove_blank_text": False, "strip_cdata": False, "resolve_entities": False,
        "huge_tree": True,
    }  # fmt: skip
    if source == "html":
        import lxml.html

        parser: Any = lxml.html.XHTMLParser(**exactly)
    elif source == "objectify":
        import lxml.objectify

        parser = lxml.objectify.makeparser(**exactly)
    else:
        parser = lxml.etree.XMLParser(**exactly)
    root = lxml.etree.parse(io.BytesIO(text), parser, base_url=base).getroot()
    root.tail = tail
    return root


def load_alone(kind: str, name: str | None, text: str | None, tail: str | None) -> Any:
    """A comment, a processing instruction or an entity that stands in no document."""
    import lxml.etree as etree

    made: Any
    if kind == "_Comment":
        made = etree.Comment(text)
    elif kind == "_Entity":
        made = etree.Entity(name or "")
    else:
        made = etree.ProcessingInstruction(name or "", text)
    made.tail = tail
    return made


def load_part(root: Any, beside: int, path: list[int]) -> Any:
    """An element of the document; `beside`: steps from the root, to siblings before it if < 0."""
    at = root
    for _ in range(abs(beside)):
        at = at.getprevious() if beside < 0 else at.getnext()
    for index in path:
        # Not at[index]: in objectify that counts elements of the same name.
        at = at.getchildren()[index] if hasattr(at, "getchildren") else at[index]
    return at


def reduce_tree(tree: Any) -> Any:
    """By its root."""
    return (load_tree, (tree.getroot(),))


def load_tree(root: Any) -> Any:
    """The tree of a document, or of a part of it."""
    import lxml.etree as etree

    if root is None:
        return etree.ElementTree()
    whole = root.getroottree()
    return whole if whole.getroot() is root else etree.ElementTree(root)


def reduce_attributes(attributes: Any) -> Any:
    """By the element that has them."""
    (element,) = gc.get_referents(attributes)
    return (load_attributes, (element,))


def load_attributes(element: Any) -> Any:
    """The attributes of an element."""
    return element.attrib


def reduce_qname(name: Any) -> Any:
    """By its text."""
    return (load_qname, (name.text,))


def load_qname(text: str) -> Any:
    """`lxml.etree.QName`."""
    import lxml.etree as etree

    return etree.QName(text)


def reduce_xpath(expression: Any) -> Any:
    """Its text and prefixes, where it has no functions of its own."""
    namespaces: dict[str, str] = {}
    for context in gc.get_referents(expression):
        for held in gc.get_referents(context):
            if isinstance(held, list):
                namespaces |= {p.decode(): uri.decode() for p, uri in _pairs(held)}
    return (load_xpath, (expression.path, namespaces))


def _pairs(held: list[Any]) -> list[tuple[bytes, bytes]]:
    return [
        one
        for one in held
        if isinstance(one, tuple) and len(one) == 2 and all(isinstance(o, bytes) for o in one)
    ]


def load_xpath(path: str, namespaces: dict[str, str]) -> Any:
    """`lxml.etree.XPath`."""
    import lxml.etree as etree

    return etree.XPath(path, namespaces=namespaces or None)


for _name in ("_Element", "ElementBase", "CommentBase", "PIBase", "EntityBase"):
    named_reduction("lxml.etree", _name, reduce_element, subclasses=True)
named_reduction("lxml.objectify", "ObjectifiedElement", reduce_element, subclasses=True)
named_reduction("lxml.etree", "_ElementTree", reduce_tree)
named_reduction("lxml.etree", "_Attrib", reduce_attributes)
named_reduction("lxml.etree", "QName", reduce_qname)
named_reduction("lxml.etree", "XPath", reduce_xpath)


# --- BeautifulSoup

_LINKS = (
    "parent", "contents", "next_element", "previous_element", "next_sibling", "previous_sibling",
)  # fmt: skip
# How far a parser is, which has ended.
_PARSING = (
    "_most_recent_element", "currentTag", "tagStack", "string_container_stack", "current_data",
    "preserve_whitespace_tag_stack", "open_tag_counter", "builder",
)  # fmt: skip


def reduce_node(node: Any) -> Any:
    """The topmost node with all below it; any other by its number below that."""
    top = node
    while top.parent is not None:
        top = top.parent
    if top is not node:
        number = next(number for number, one in enumerate(_below(top)) if one is node)
        return (load_node, (top, number))
    numbers: dict[int, int] = {}
    nodes = []
    for number, one in enumerate(_below(top)):
        numbers[id(one)] = number
        above = None if one is top else numbers[id(one.parent)]
        text = str.__str__(one) if isinstance(one, str) else None
        nodes.append((type(one), above, text, _own(one)))
    builder = type(getattr(top, "builder", None)) if hasattr(top, "builder") else None
    return (load_soup, (nodes, None if builder is type(None) else builder))


def _own(node: Any) -> dict[str, Any]:
    kept = {name: value for name, value in vars(node).items() if name not in _LINKS}
    if "builder" in kept:
        for name in _PARSING:
            kept.pop(name, None)
    return kept


def _below(top: Any) -> Any:
    """A node and all below it, in the order of the document, without recursion."""
    waiting = [top]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(getattr(node, "contents", ())))


def load_soup(nodes: list[Any], builder: Any) -> Any:
    """A document, or a part that stands alone: each node as it was, and linked again."""
    made: list[Any] = []
    for cls, above, text, own in nodes:
        node = str.__new__(cls, text) if text is not None else cls.__new__(cls)
        vars(node).update(own)
        if text is None:
            node.contents = []
        node.parent = None if above is None else made[above]
        node.previous_element = made[-1] if made else None
        node.previous_sibling = node.next_element = node.next_sibling = None
        if made:
            made[-1].next_element = node
        if above is not None:
            before = made[above].contents
            if before:
                node.previous_sibling = before[-1]
                before[-1].next_sibling = node
            before.append(node)
        made.append(node)
    if builder is not None:
        _ready_to_parse(made[0], builder())
    return made[0]


def _ready_to_parse(soup: Any, builder: Any) -> None:
    """What a soup has for its parser: `new_tag` and others ask it."""
    import collections

    soup.builder = builder
    builder.soup = soup
    soup.current_data = []
    soup.currentTag = soup._most_recent_element = soup
    soup.tagStack = [soup]
    soup.open_tag_counter = collections.Counter()
    soup.preserve_whitespace_tag_stack = []
    soup.string_container_stack = []


def load_node(top: Any, number: int) -> Any:
    """A node of a document."""
    return next(node for at, node in enumerate(_below(top)) if at == number)


named_reduction("bs4.element", "PageElement", reduce_node, subclasses=True)
