"""Rows of libraries for graphs, symbols, shapes, the web, validation and templates."""

from __future__ import annotations

from library import Library

_networkx = Library("networkx", "import networkx as nx")
_sympy = Library("sympy", "import sympy as sp")
_shapely = Library("shapely", "import shapely")
_requests = Library("requests", "import requests")
_bs4 = Library("bs4", "import bs4")
_lxml = Library("lxml", "from lxml import etree")
_pydantic = Library("pydantic", "import pydantic")
_attrs = Library("attrs", "import attrs", needs=("attr",))
_jinja = Library("jinja2", "import jinja2")
_tqdm = Library("tqdm", "import tqdm")

_GRAPHS = (
    _networkx("Graph, and a view of it", "NAME = nx.path_graph(4)\nNAME.nodes[1]['c'] = 'red'\n"
        "NAME_v = NAME.subgraph([0, 1])",
        "NAME.add_edge(3, 0)\n"
        "assert nx.shortest_path_length(NAME, 0, 3) == 1 and NAME.nodes[1]['c'] == 'red'\n"
        "NAME.edges[0, 1]['w'] = 5\nassert NAME_v.edges[0, 1]['w'] == 5 and len(NAME_v) == 2"),
    _networkx("DiGraph and MultiDiGraph", "NAME = nx.DiGraph([(1, 2)])\n"
        "NAME_m = nx.MultiDiGraph([(1, 2), (1, 2)])",
        "assert list(NAME.successors(1)) == [2] and NAME_m.number_of_edges(1, 2) == 2\n"
        "assert list(NAME.reverse(copy=False).edges) == [(2, 1)]"),
    _networkx("views in their own variables", "NAME_g = nx.Graph([(1, 2)])\nNAME = NAME_g.nodes\n"
        "NAME_e, NAME_a = NAME_g.edges, NAME_g.adj\nNAME_d = NAME_g.degree",
        "NAME_g.add_edge(2, 3)\n"
        "assert len(NAME) == 3 and len(NAME_e) == 2 and 3 in NAME_a[2] and NAME_d[2] == 2"),
    _networkx("filtered view with a function of the notebook", "NAME_g = nx.path_graph(5)\n"
        "NAME = nx.subgraph_view(NAME_g, filter_node=lambda n: n % 2 == 0)",
        "assert list(NAME) == [0, 2, 4]\nNAME_g.add_node(6)\nassert 6 in NAME"),
)  # fmt: skip

_SYMBOLS = (
    _sympy("Symbol with assumptions", "NAME = sp.Symbol('x', positive=True)",
        "assert NAME is sp.Symbol('x', positive=True) and sp.sqrt(NAME ** 2) == NAME"),
    _sympy("expressions that share a symbol", "NAME_x = sp.Symbol('x')\n"
        "NAME = sp.sin(NAME_x) ** 2 + NAME_x",
        "assert sp.diff(NAME, NAME_x) == 2 * sp.sin(NAME_x) * sp.cos(NAME_x) + 1 and "
        "NAME.subs(NAME_x, 0) == 0"),
    _sympy("Dummy and Wild", "NAME = sp.Dummy('d')\nNAME_e = NAME + 1\nNAME_w = sp.Wild('w')",
        "assert (NAME_e - NAME) == 1 and NAME != sp.Dummy('d') and (NAME_e).match(NAME_w + "
        "1)[NAME_w] == NAME"),
    _sympy("lambdify", "NAME_x = sp.Symbol('x')\n"
        "NAME = sp.lambdify(NAME_x, NAME_x ** 2 + sp.sin(NAME_x), 'math')",
        "import math\nassert NAME(2) == 4 + math.sin(2)\nimport inspect"),
    _sympy("Matrix", "NAME = sp.Matrix([[1, sp.Symbol('a')], [0, 2]])\n"
        "NAME_i = sp.ImmutableMatrix([[1]])",
        "NAME[0, 0] = 5\nassert NAME.det() == 10 and NAME_i[0] == 1"),
    _sympy("undefined Function and its equation", "NAME = sp.Function('f')\n"
        "NAME_t = sp.Symbol('t')\n"
        "NAME_e = sp.Eq(NAME(NAME_t).diff(NAME_t), NAME(NAME_t))",
        "assert sp.dsolve(NAME_e).rhs.has(sp.exp) and NAME_e.lhs.args[0].func == NAME"),
    _sympy("Function from the notebook", "class NAME(sp.Function):\n    @classmethod\n"
        "    def eval(cls, n):\n        if n.is_Integer:\n            return n * 2\n"
        "NAME_e = NAME(sp.Symbol('y')) + 1",
        "assert NAME(3) == 6 and NAME_e.subs('y', 4) == 9"),
    _sympy("Piecewise, Poly, sets and relations", "NAME_x = sp.Symbol('x')\n"
        "NAME = sp.Piecewise((1, NAME_x > 0), (0, True))\nNAME_p = sp.Poly(NAME_x ** 2 - 1)\n"
        "NAME_s = sp.Interval(0, 1) | sp.FiniteSet(5)",
        "assert NAME.subs(NAME_x, 3) == 1 and sorted(NAME_p.all_roots()) == [-1, 1] and 5 in "
        "NAME_s"),
    _sympy("IndexedBase, MatrixSymbol and physics units", "NAME = "
        "sp.IndexedBase('A')[sp.Idx('i', 3)]\n"
        "from sympy.physics import units\nNAME_m = sp.MatrixSymbol('M', 2, 2)\n"
        "NAME_u = 5 * units.meter",
        "from sympy.physics import units\n"
        "assert units.convert_to(NAME_u, units.cm) == 500 * units.cm\n"
        "assert NAME.base.label.name == 'A' and NAME_m.shape == (2, 2)"),
)  # fmt: skip

_SHAPES = (
    _shapely("geometries", "NAME = shapely.Point(1, 2).buffer(1)\n"
        "NAME_l = shapely.LineString([(0, 0), (2, 2, )])",
        "assert NAME.contains(shapely.Point(1, 2)) and NAME_l.intersects(NAME)"),
    _shapely("geometry with SRID and Z", "NAME = shapely.set_srid(shapely.Point(1, 2, 3), 4326)",
        "assert NAME.z == 3 and shapely.get_srid(NAME) == 4326"),
    _shapely("prepared geometry", "from shapely.prepared import prep\n"
        "NAME = prep(shapely.box(0, 0, 1, 1))\n"
        "NAME_p = shapely.box(0, 0, 1, 1)\nshapely.prepare(NAME_p)",
        "assert NAME.contains(shapely.Point(.5, .5)) and NAME_p.contains(shapely.Point(.5, .5))"),
    _shapely("STRtree", "NAME_g = [shapely.Point(i, i) for i in range(5)]\n"
        "NAME = shapely.STRtree(NAME_g)",
        "assert NAME.query(shapely.box(1, 1, 2, 2)).tolist() == [1, 2] and "
        "NAME.nearest(shapely.Point(9, 9)) == 4\n"
        "assert NAME.geometries[0] == NAME_g[0]"),
)  # fmt: skip

_WEB = (
    _requests("Session", "NAME = requests.Session()\nNAME.headers['x'] = 'y'\n"
        "NAME.cookies.set('k', 'v')\n"
        "NAME.auth = ('u', 'p')",
        "assert NAME.headers['x'] == 'y' and NAME.cookies['k'] == 'v'\n"
        "p = NAME.prepare_request(requests.Request('GET', 'http://h/'))\n"
        "assert 'k=v' in p.headers['Cookie']\n"
        "try:\n    NAME.get('http://127.0.0.1:9/', timeout=1)\n"
        "except requests.ConnectionError:\n    pass"),
    _requests("Response", "NAME = requests.Response()\n"
        "NAME.status_code, NAME._content = 200, b'{\"a\": 1}'\n"
        "NAME.headers['content-type'] = 'application/json'\nNAME.url = 'http://h/'",
        "assert NAME.json() == {'a': 1} and NAME.ok and NAME.text and "
        "NAME.headers['Content-Type']"),
    _requests("Response from a server", """
        import http.server, threading
        class NAME_H(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"hello")
            def log_message(self, *args):
                pass
        server = http.server.HTTPServer(("127.0.0.1", 0), NAME_H)
        threading.Thread(target=server.handle_request).start()
        NAME = requests.get(f"http://127.0.0.1:{server.server_port}/")
        server.server_close()
        del server
        """, "assert NAME.content == b'hello' and NAME.request.method == 'GET' and "
        "NAME.elapsed.total_seconds() > 0"),
    _requests("Response that streams", """
        import http.server, threading
        class NAME_H(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"hello")
            def log_message(self, *args):
                pass
        server = http.server.HTTPServer(("127.0.0.1", 0), NAME_H)
        threading.Thread(target=server.handle_request).start()
        NAME = requests.get(f"http://127.0.0.1:{server.server_port}/", stream=True)
        server.server_close()
        del server
        """, "", expect="named", why_not="connection"),
    _requests("Request and PreparedRequest", "NAME = requests.Request('POST', 'http://h/', "
        "data={'a': 1})\n"
        "NAME_p = NAME.prepare()", "assert NAME_p.body == 'a=1' and NAME.prepare().url == "
        "'http://h/'"),
    _bs4("BeautifulSoup, and a tag that is part of it",
        "NAME = bs4.BeautifulSoup('<p id=a>one<b>two</b></p><p>three</p>', 'html.parser')\n"
        "NAME_b = NAME.b\nNAME_t = NAME_b.string",
        "assert NAME_b.parent is NAME.p and NAME.find(id='a').b is NAME_b and NAME_t.parent is "
        "NAME_b\n"
        "NAME_b.string = 'changed'\n"
        "assert 'changed' in str(NAME) and NAME_b.find_next('p').text == 'three'"),
    _bs4("BeautifulSoup by lxml", "NAME = bs4.BeautifulSoup('<p>x', 'lxml')\nNAME_p = NAME.p",
        "assert str(NAME.body) == '<body><p>x</p></body>' and NAME_p in NAME.body.contents\n"
        "NAME_p.append(NAME.new_tag('i'))", "lxml"),
    _bs4("deep soup", "NAME = bs4.BeautifulSoup('<div>' * 300 + 'x', 'html.parser')",
        "assert NAME.text == 'x' and len(NAME.find_all('div')) == 300"),
    _bs4("ResultSet and SoupStrainer", "NAME = bs4.BeautifulSoup('<a>1</a><a>2</a>', "
        "'html.parser')('a')\n"
        "NAME_s = bs4.SoupStrainer('a')",
        "assert [a.text for a in NAME] == ['1', '2']\n"
        "assert bs4.BeautifulSoup('<b><a>1', 'html.parser', parse_only=NAME_s).text == '1'"),
)  # fmt: skip

_LXML = (
    _lxml("Element that is part of its tree",
        "NAME_root = etree.XML('<r><a k=\"1\">t<b/>tail</a><!--c--><a/></r>')\n"
        "NAME = NAME_root[0]\n"
        "NAME_b = NAME[0]",
        "assert NAME.getparent() is NAME_root and NAME_b.tail == 'tail' and NAME_b.getparent() "
        "is NAME\n"
        "NAME.set('k', '2')\nassert NAME_root.xpath('string(a/@k)') == '2'\nNAME_b.text = 'new'\n"
        "assert b'<b>new</b>tail' in etree.tostring(NAME_root) and len(NAME_root) == 3"),
    _lxml("ElementTree with a doctype",
        "import io\nNAME = etree.parse(io.BytesIO(b'<!DOCTYPE r [<!ENTITY e \"v\">]>"
        "<?pi x?><r xmlns:p=\"u\"><p:a/></r>'))\nNAME_root = NAME.getroot()",
        "assert NAME.getroot() is NAME_root and NAME_root[0].tag == '{u}a' and "
        "NAME.docinfo.root_name == 'r'\n"
        "assert b'<?pi x?>' in etree.tostring(NAME)"),
    _lxml("HTML element", "from lxml import html\n"
        "NAME = html.fromstring('<div><p class=c>x</p></div>')",
        "assert NAME.cssselect if False else NAME.xpath('//p[@class=\"c\"]')[0].text_content() "
        "== 'x'\n"
        "from lxml import html\nassert type(NAME) is html.HtmlElement and NAME.find_class('c')"),
    _lxml("objectify", "from lxml import objectify\n"
        "NAME = objectify.fromstring('<r><a>5</a></r>')\nNAME_a = NAME.a",
        "assert NAME.a + 1 == 6 and NAME_a.getparent() is NAME\nNAME.b = 'x'\n"
        "assert NAME.b == 'x'"),
    _lxml("XPath", "NAME = etree.XPath('//p:a[@k=$v]', namespaces={'p': 'u'})",
        "assert len(NAME(etree.XML('<r xmlns=\"u\"><a k=\"1\"/></r>'), v='1')) == 1"),
    _lxml("XSLT", """
        NAME_x = etree.XML('''<xsl:stylesheet version="1.0"
            xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
            <xsl:template match="/"><o><xsl:value-of select="r"/></o></xsl:template>
            </xsl:stylesheet>''')
        NAME = etree.XSLT(NAME_x)
        """, "", expect="named", why_not="compiled"),
    _lxml("parsers", "NAME = etree.XMLParser(remove_blank_text=True)\nNAME_h = etree.HTMLParser()",
        "",
        expect="named", why_not="parser"),
    _lxml("XMLSchema", "NAME = etree.XMLSchema(etree.XML('<xs:schema xmlns:xs="
        "\"http://www.w3.org/2001/XMLSchema\"><xs:element name=\"a\" "
        "type=\"xs:int\"/></xs:schema>'))", "",
        expect="named", why_not="schema"),
    _lxml("attributes of an element", "NAME_e = etree.XML('<r a=\"1\"/>')\nNAME = NAME_e.attrib",
        "NAME['a'] = '2'\nassert NAME_e.get('a') == '2'"),
    _lxml("QName, Comment and processing instruction", "NAME = etree.QName('u', 'a')\n"
        "NAME_c = etree.Comment('c')\n"
        "NAME_p = etree.PI('t', 'x')",
        "assert NAME.text == '{u}a' and NAME_c.text == 'c' and NAME_p.target == 't'\n"
        "assert etree.tostring(NAME_c) == b'<!--c-->'"),
)  # fmt: skip

_VALIDATION = (
    _pydantic("model of the notebook, and an instance", """
        class NAME_M(pydantic.BaseModel):
            a: int
            b: list[str] = []
            _seen: dict = pydantic.PrivateAttr(default_factory=dict)
            @pydantic.field_validator("a")
            @classmethod
            def positive(cls, v):
                if v < 0:
                    raise ValueError("negative")
                return v
        NAME = NAME_M(a="3")
        NAME._seen["x"] = 1
        """, """
        assert NAME.a == 3 and NAME._seen == {"x": 1} and type(NAME) is NAME_M
        assert NAME_M.model_validate_json('{"a": 4, "b": ["c"]}').b == ["c"] and NAME.model_dump()
        try:
            NAME_M(a=-1)
        except pydantic.ValidationError as why:
            assert "negative" in str(why)
        else:
            assert False
        """),
    _pydantic("models that hold each other", """
        class NAME_Node(pydantic.BaseModel):
            next: "NAME_Node | None" = None
            n: int = 0
        NAME = NAME_Node(next=NAME_Node(n=2))
        """, "assert NAME.next.n == 2 and NAME_Node.model_validate({'next': {'n': 5}}).next.n "
        "== 5"),
    _pydantic("generic and computed model", """
        from typing import Generic, TypeVar
        NAME_T = TypeVar("NAME_T")
        class NAME_G(pydantic.BaseModel, Generic[NAME_T]):
            v: NAME_T
            @pydantic.computed_field
            @property
            def twice(self) -> int:
                return self.v * 2
        NAME = NAME_G[int](v=3)
        """, "assert NAME.twice == 6 and NAME.model_dump() == {'v': 3, 'twice': 6} and "
        "type(NAME) is NAME_G[int]"),
    _pydantic("TypeAdapter", "NAME = pydantic.TypeAdapter(list[int])", "assert "
        "NAME.validate_python(['1']) == [1]"),
    _pydantic("dataclass and validated function", "@pydantic.dataclasses.dataclass\n"
        "class NAME_D:\n    a: int\n"
        "NAME = NAME_D('4')\n@pydantic.validate_call\ndef NAME_f(n: int):\n    return n + 1",
        "assert NAME.a == 4 and NAME_D('5').a == 5 and NAME_f('1') == 2"),
    _pydantic("ValidationError and secrets", "NAME_s = pydantic.TypeAdapter(int)\ntry:\n"
        "    NAME_s.validate_python('x')\nexcept pydantic.ValidationError as why:\n"
        "    NAME = [why]\n"
        "    NAME[0].__traceback__ = None",
        "assert NAME[0].error_count() == 1"),
    _attrs("class of the notebook", "@attrs.define\nclass NAME_C:\n"
        "    a: int = attrs.field(converter=int)\n"
        "    b: list = attrs.Factory(list)\nNAME = NAME_C('3')",
        "NAME.b.append(1)\n"
        "assert NAME == NAME_C(3, [1]) and attrs.asdict(NAME) == {'a': 3, 'b': [1]}\n"
        "NAME.a = '9'\nassert NAME.a == 9"),
    _attrs("frozen class", "@attrs.frozen\nclass NAME_C:\n    a: int\nNAME = NAME_C(1)",
        "assert hash(NAME) == hash(NAME_C(1)) and attrs.evolve(NAME, a=2).a == 2\ntry:\n"
        "    NAME.a = 3\n"
        "except attrs.exceptions.FrozenInstanceError:\n    pass\nelse:\n    assert False"),
    _attrs("class with a dict and a validator", "@attrs.define(slots=False)\nclass NAME_C:\n"
        "    a: int = attrs.field(validator=attrs.validators.instance_of(int))\n"
        "NAME = NAME_C(1)\nNAME.extra = 5",
        "assert NAME.extra == 5\ntry:\n    NAME.a = 'x'\nexcept TypeError:\n    pass\nelse:\n"
        "    assert False"),
    _attrs("class with super() and a weak reference", "@attrs.define\nclass NAME_B:\n"
        "    a: int = 1\n"
        "    def f(self):\n        return self.a\n@attrs.define\nclass NAME_C(NAME_B):\n"
        "    def f(self):\n        return super().f() + 10\nNAME = NAME_C()",
        "import weakref\nassert NAME.f() == 11 and weakref.ref(NAME)() is NAME"),
)  # fmt: skip

_TEMPLATES = (
    _jinja("Template", "NAME = jinja2.Template('{% for x in xs %}{{ x|upper }}{% endfor %}')",
        "assert NAME.render(xs='ab') == 'AB'"),
    _jinja("Environment with a filter of the notebook", "NAME = "
        "jinja2.Environment(trim_blocks=True)\n"
        "NAME.filters['twice'] = lambda s: s * 2\nNAME_t = NAME.from_string('{{ x|twice }}')",
        "assert NAME_t.render(x='a') == 'aa' and NAME.from_string('{{ 1 + 1 }}').render() == '2'\n"
        "assert NAME_t.environment is NAME and NAME.trim_blocks"),
    _jinja("Environment with a loader", "import tempfile\nNAME_d = tempfile.mkdtemp()\n"
        "open(NAME_d + '/a.txt', 'w').write('{% include \"b.txt\" %}!')\n"
        "open(NAME_d + '/b.txt', 'w').write('b')\n"
        "NAME = jinja2.Environment(loader=jinja2.FileSystemLoader(NAME_d))\n"
        "NAME_t = NAME.get_template('a.txt')",
        "assert NAME_t.render() == 'b!' and NAME.get_template('a.txt').render() == 'b!'"),
    _jinja("DictLoader, Undefined and Markup", "import markupsafe\n"
        "NAME = jinja2.DictLoader({'a': 'x{{ y }}'})\n"
        "NAME_m = markupsafe.Markup('<b>')", "assert "
        "jinja2.Environment(loader=NAME).get_template('a').render(y=1) == 'x1'\n"
        "assert NAME_m + '<' == '<b>&lt;'"),
    _tqdm("bar half way", "import io\nNAME = tqdm.tqdm(total=10, file=io.StringIO(), desc='d')\n"
        "NAME.update(3)",
        "assert NAME.n == 3\nNAME.update(2)\nNAME.close()\n"
        "assert NAME.n == 5 and NAME.total == 10"),
    _tqdm("bar on stderr over a list", "NAME = tqdm.tqdm([1, 2, 3])",
        "assert list(NAME) == [1, 2, 3]"),
)  # fmt: skip

ROWS = (*_GRAPHS, *_SYMBOLS, *_SHAPES, *_WEB, *_LXML, *_VALIDATION, *_TEMPLATES)
