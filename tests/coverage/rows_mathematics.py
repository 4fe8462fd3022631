"""More rows of libraries for mathematics: numpy, scipy, sympy, networkx."""

from __future__ import annotations

from library import Library

_numpy = Library("numpy", "import numpy as np")
_scipy = Library("scipy", "import numpy as np, scipy", needs=("scipy", "numpy"))
_sympy = Library("sympy", "import sympy as sy")
_networkx = Library("networkx", "import networkx as nx")

_NUMPY = (
    _numpy("bool, complex and half arrays", "NAME = [np.array([True, False]), np.array([1 + 2j]),"
        " np.array([1.5], 'f2')]",
        "assert NAME[0].sum() == 1 and NAME[1].conj()[0] == 1 - 2j and NAME[2].dtype == np.float16"),
    _numpy("array of texts and of bytes", "NAME = [np.array(['ab', 'c']), np.array([b'ab'])]",
        "NAME[0][1] = 'xyz'\nassert NAME[0].tolist() == ['ab', 'xy'] and NAME[1][0] == b'ab'"),
    _numpy("scalars", "NAME = [np.float32(1.5), np.int8(-3), np.complex64(1j), np.datetime64('2024'),"
        " np.bool_(True), np.str_('x')]",
        "assert NAME[0].dtype == 'f4' and NAME[1] - np.int8(1) == -4 and NAME[3].item().year == 2024"),
    _numpy("zero-dimensional and empty array", "NAME = [np.array(5.0), np.empty((0, 3))]",
        "NAME[0][()] = 6\nassert NAME[0] == 6 and np.vstack([NAME[1], [1, 2, 3]]).shape == (1, 3)"),
    _numpy("array in big-endian order", "NAME = np.array([1, 2], '>i4')",
        "NAME += 1\nassert NAME.tolist() == [2, 3] and NAME.dtype.byteorder == '>'"),
    _numpy("meshgrid, not copied", "NAME, NAME_y = np.meshgrid(range(3), range(2), copy=False)",
        "assert NAME.shape == (2, 3) and (NAME + NAME_y)[1, 2] == 3"),
    _numpy("Chebyshev and Legendre series", "NAME = np.polynomial.Chebyshev([1, 2, 3])\n"
        "NAME_l = np.polynomial.Legendre.fit([0, 1, 2], [0, 1, 4], 2)",
        "assert NAME(0.5) == 0.5 and abs(NAME_l(3) - 9) < 1e-9 and NAME.deriv().degree() == 1"),
    _numpy("histogram and its edges", "NAME = np.histogram([1, 2, 2], bins=2)",
        "assert NAME[0].tolist() == [1, 2] and NAME[1][-1] == 2"),
)  # fmt: skip

_SCIPY = (
    _scipy("PchipInterpolator and Akima1DInterpolator",
        "from scipy.interpolate import Akima1DInterpolator, PchipInterpolator\n"
        "NAME, NAME_a = [f(range(5), [0, 1, 4, 9, 16]) for f in"
        " (PchipInterpolator, Akima1DInterpolator)]",
        "assert NAME(2) == 4 == NAME_a(2) and NAME.derivative()(4) > 5"),
    _scipy("PPoly and BarycentricInterpolator",
        "from scipy.interpolate import BarycentricInterpolator, PPoly\n"
        "NAME, NAME_b = PPoly([[1.], [0.]], [0, 2]), BarycentricInterpolator([0, 1, 2], [0, 1, 4])",
        "assert NAME(1.5) == 1.5 and NAME.integrate(0, 2) == 2 and abs(NAME_b(1.5) - 2.25) < 1e-9"),
    _scipy("RectBivariateSpline", "from scipy.interpolate import RectBivariateSpline\n"
        "NAME = RectBivariateSpline(range(5), range(5), np.outer(range(5), range(5)))",
        "assert abs(NAME(2, 3)[0, 0] - 6) < 1e-9"),
    _scipy("make_interp_spline and smoothing spline",
        "from scipy.interpolate import make_interp_spline, make_smoothing_spline\n"
        "NAME = make_interp_spline(range(6), range(6))\n"
        "NAME_s = make_smoothing_spline(np.arange(6.), np.arange(6.))",
        "assert abs(NAME(2.5) - 2.5) < 1e-9 and abs(NAME_s(2.5) - 2.5) < 1e-6"),
    _scipy("StateSpace, ZerosPolesGain and dlti", "from scipy import signal\n"
        "NAME = signal.StateSpace([[-1.]], [[1.]], [[1.]], [[0.]])\n"
        "NAME_z, NAME_d = NAME.to_zpk(), signal.dlti([1.], [1., -0.5], dt=1)",
        "assert NAME.poles[0] == -1 == NAME_z.poles[0] and NAME_d.poles[0] == 0.5\n"
        "assert abs(NAME.step(T=[0, 50])[1][-1] - 1) < 1e-6"),
    _scipy("ShortTimeFFT", "from scipy import signal\n"
        "NAME = signal.ShortTimeFFT(signal.windows.hann(8), hop=4, fs=1.0)",
        "assert NAME.stft(np.ones(32)).shape[0] == 5 and NAME.hop == 4"),
    _scipy("results of tests and fits", "from scipy import stats\n"
        "NAME = [stats.ttest_ind([1, 2, 3], [2, 3, 4]), stats.linregress([0, 1, 2], [1, 3, 5]),"
        " stats.pearsonr([1, 2, 4], [1, 2, 3])]",
        "assert NAME[0].pvalue < 1 and NAME[1].slope == 2 and NAME[2].confidence_interval().low < 1"),
    _scipy("multivariate t, Dirichlet and Wishart, frozen", "from scipy import stats\n"
        "NAME = [stats.multivariate_t([0, 0]), stats.dirichlet([1, 2]), stats.wishart(3, np.eye(2))]",
        "assert NAME[0].pdf([0, 0]) > NAME[0].pdf([1, 1]) and abs(NAME[1].mean()[1] - 2 / 3) < 1e-9\n"
        "assert NAME[2].rvs(random_state=0).shape == (2, 2)"),
    _scipy("rv_histogram and rv_discrete", "from scipy import stats\n"
        "NAME = stats.rv_histogram(np.histogram([1, 2, 2, 3], bins=3))\n"
        "NAME_d = stats.rv_discrete(values=([1, 2], [0.25, 0.75]))",
        "assert NAME.cdf(3) == 1 and NAME_d.pmf(2) == 0.75 and NAME_d.rvs(random_state=0) in (1, 2)"),
    _scipy("LatinHypercube and Halton, going on", "from scipy.stats import qmc\n"
        "NAME, NAME_h = qmc.LatinHypercube(2, rng=1), qmc.Halton(2, scramble=False)\n"
        "NAME_h.random(3)",
        "assert NAME.random(4).shape == (4, 2) and NAME_h.random(1)[0, 0] == 0.75"),
    _scipy("bounds and constraints", "from scipy import optimize\n"
        "NAME = [optimize.Bounds([0], [1]), optimize.LinearConstraint([[1]], 0, 0.5),"
        " optimize.NonlinearConstraint(lambda x: x ** 2, 0, 1)]",
        "r = optimize.minimize(lambda x: -x[0], [0.1], bounds=NAME[0], constraints=NAME[1:])\n"
        "assert abs(r.x[0] - 0.5) < 1e-4"),
    _scipy("linkage and its tree", "from scipy.cluster import hierarchy\n"
        "NAME = hierarchy.linkage([[0.], [1], [5]])\nNAME_t = hierarchy.to_tree(NAME)",
        "assert hierarchy.fcluster(NAME, 2, 'maxclust').tolist()[0] != 0\n"
        "assert NAME_t.get_count() == 3 and sorted(NAME_t.pre_order()) == [0, 1, 2]"),
    _scipy("lil, dok matrices of the old kind", "import scipy.sparse as s\n"
        "NAME = [s.csr_matrix(np.eye(2)), s.lil_matrix((2, 2)), s.dok_matrix((2, 2))]",
        "NAME[1][0, 1] = 5\nNAME[2][1, 1] = 7\nassert (NAME[0] * NAME[1])[0, 1] == 5\n"
        "assert NAME[2].tocsr().sum() == 7"),
    _scipy("SphericalVoronoi and HalfspaceIntersection", "from scipy import spatial\n"
        "NAME = spatial.SphericalVoronoi(np.vstack([np.eye(3), -np.eye(3)]))\n"
        "NAME_h = spatial.HalfspaceIntersection(np.array([[-1., 0, 0], [0, -1, 0], [1, 1, -1]]),"
        " np.array([0.2, 0.2]))",
        "assert len(NAME.regions) == 6 and NAME_h.intersections.shape == (3, 2)"),
)  # fmt: skip

_SYMPY = (
    _sympy("Integer, Rational and constants", "NAME = [sy.Integer(3), sy.Rational(1, 3), sy.pi, sy.I,"
        " sy.oo, sy.nan]",
        "assert NAME[2] is sy.pi and NAME[4] is sy.oo and NAME[3] ** 2 == -1\n"
        "assert NAME[1] + NAME[1] == sy.Rational(2, 3) and NAME[5] is sy.nan"),
    _sympy("Float of 50 digits", "NAME = sy.pi.evalf(50)",
        "assert str(NAME).startswith('3.14159265358979323846264338327950288419716939') and"
        " NAME._prec > 160"),
    _sympy("Integral, Derivative and Limit, not done", "x = sy.Symbol('x')\n"
        "NAME = [sy.Integral(x ** 2, (x, 0, 1)), sy.Derivative(sy.sin(x), x), sy.Limit(sy.sin(x) / x,"
        " x, 0)]",
        "assert [one.doit() for one in NAME] == [sy.Rational(1, 3), sy.cos(sy.Symbol('x')), 1]"),
    _sympy("Sum and Product", "n = sy.Symbol('n')\n"
        "NAME = [sy.Sum(n, (n, 1, 10)), sy.Product(n, (n, 1, 5))]",
        "assert NAME[0].doit() == 55 and NAME[1].doit() == 120"),
    _sympy("solutions of equations", "x, y = sy.symbols('x y')\n"
        "NAME = [sy.solve([x + y - 3, x - y - 1], [x, y]), sy.solveset(x ** 2 - 4, x)]",
        "assert NAME[0][sy.Symbol('x')] == 2 and NAME[1] == sy.FiniteSet(-2, 2)"),
    _sympy("differential equation and its solution", "t = sy.Symbol('t')\nf = sy.Function('f')\n"
        "NAME = sy.dsolve(f(t).diff(t) - f(t), f(t))",
        "assert NAME.rhs.has(sy.exp) and sy.checkodesol(sy.Function('f')(sy.Symbol('t')).diff() -"
        " sy.Function('f')(sy.Symbol('t')), NAME)[0]"),
    _sympy("series with an order", "x = sy.Symbol('x')\nNAME = sy.exp(x).series(x, 0, 3)",
        "assert NAME.getO() is not None and NAME.removeO().subs(sy.Symbol('x'), 1) == sy.Rational(5, 2)"),
    _sympy("ImmutableMatrix, SparseMatrix and eigenvectors",
        "NAME = [sy.ImmutableMatrix([[1, 2], [3, 4]]), sy.SparseMatrix(2, 2, {(0, 0): 5}),"
        " sy.Matrix([[2, 0], [0, 3]]).eigenvects()]",
        "assert NAME[0].det() == -2 and NAME[1][0, 0] == 5 and NAME[2][0][0] == 2\n"
        "assert hash(NAME[0]) == hash(sy.ImmutableMatrix([[1, 2], [3, 4]]))"),
    _sympy("logic and a permutation", "a, b = sy.symbols('a b')\n"
        "from sympy.combinatorics import Permutation, PermutationGroup\n"
        "NAME = [sy.And(a, sy.Or(b, ~a)), Permutation([1, 2, 0])]\n"
        "NAME_g = PermutationGroup(NAME[1])",
        "assert sy.simplify_logic(NAME[0]) == sy.And(*sy.symbols('a b')) and NAME[1](0) == 1\n"
        "assert NAME_g.order() == 3"),
    _sympy("geometry", "NAME = [sy.Point(0, 0), sy.Circle(sy.Point(0, 0), 2), sy.Line((0, 0), (1, 1))]",
        "assert NAME[1].area == 4 * sy.pi and NAME[0] in NAME[2]\n"
        "assert len(NAME[1].intersection(NAME[2])) == 2"),
    _sympy("random variable", "from sympy.stats import Die, E\nNAME = Die('D', 6)",
        "from sympy.stats import E, P\nassert E(NAME) == sy.Rational(7, 2) and P(NAME > 4) == sy.Rational(1, 3)"),
    _sympy("quantities", "from sympy.physics.units import convert_to, km, m\nNAME = 3 * km + 5 * m",
        "from sympy.physics.units import convert_to, m\nassert convert_to(NAME, m) == 3005 * m"),
)  # fmt: skip

_NETWORKX = (
    _networkx("graph with attributes of nodes and edges", "NAME = nx.path_graph(4)\n"
        "NAME.nodes[0]['c'] = [1]\nNAME.edges[0, 1]['w'] = 2.5\nNAME.graph['name'] = 'g'",
        "NAME.add_edge(3, 0)\nassert nx.is_eulerian(NAME) and NAME.nodes[0]['c'] == [1]\n"
        "assert NAME[0][1]['w'] == 2.5 and NAME.graph['name'] == 'g'"),
    _networkx("MultiGraph with keys", "NAME = nx.MultiGraph()\n"
        "NAME.add_edge('a', 'b', key='k', w=1)\nNAME.add_edge('a', 'b', w=2)",
        "assert NAME.number_of_edges('a', 'b') == 2 and NAME['a']['b']['k']['w'] == 1"),
    _networkx("subgraph view of a graph", "NAME_g = nx.cycle_graph(5)\n"
        "NAME = NAME_g.subgraph([0, 1, 2])",
        "NAME_g.add_edge(0, 2)\nassert NAME.number_of_edges() == 3"),
    _networkx("adjacency and degree views", "NAME_g = nx.star_graph(3)\n"
        "NAME = [NAME_g.adj, NAME_g.degree]",
        "NAME_g.add_edge(1, 2)\nassert NAME[1][1] == 2 and 2 in NAME[0][1]"),
    _networkx("shortest paths and a layout", "NAME_g = nx.grid_2d_graph(3, 3)\n"
        "NAME = [dict(nx.all_pairs_shortest_path_length(NAME_g)), nx.circular_layout(NAME_g)]",
        "assert NAME[0][0, 0][2, 2] == 4 and NAME[1][0, 0].shape == (2,)"),
    _networkx("tree, its traversal and a PlanarEmbedding", "NAME = nx.balanced_tree(2, 3)\n"
        "NAME_p = nx.check_planarity(NAME)[1]",
        "assert nx.is_tree(NAME) and NAME_p.number_of_nodes() == 15\nNAME_p.check_structure()"),
)  # fmt: skip

ROWS = (*_NUMPY, *_SCIPY, *_SYMPY, *_NETWORKX)
