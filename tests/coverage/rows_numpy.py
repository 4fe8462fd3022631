"""Rows of numpy and scipy."""

from __future__ import annotations

from library import Library

_numpy = Library("numpy", "import copy, numpy as np")
_scipy = Library("scipy", "import numpy as np, scipy", needs=("scipy", "numpy"))

_NUMPY = (
    _numpy("structured array",
        """
        NAME_at = [("lon", "f8"), ("lat", "f8")]
        NAME = np.zeros(3, [("x", "<i4"), ("at", NAME_at), ("v", "u1", (2,))])
        NAME_lat = NAME["at"]["lat"]
        """,
        """
        NAME["at"]["lat"][1] = 7
        assert NAME_lat[1] == 7 and NAME.dtype["v"].shape == (2,)
        """),
    _numpy("recarray", "NAME = np.rec.array([(1, 'a'), (2, 'b')], names='n,t')",
        """
        assert NAME.n.sum() == 3 and NAME[1].t == "b" and type(NAME[0]) is np.record
        NAME.n = 5
        assert NAME.n[0] == 5
        """),
    _numpy("MaskedArray",
        """
        NAME = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-9, hard_mask=True)
        """,
        """
        NAME[1] = 5
        assert NAME[1] is np.ma.masked and NAME.sum() == 4 and NAME.filled()[1] == -9
        """),
    _numpy("MaskedArray over the memory of an array",
        "NAME_base = np.arange(4.0)\nNAME = np.ma.array(NAME_base, mask=[0, 0, 1, 0], copy=False)",
        "NAME[0] = 9.0\nassert NAME_base[0] == 9.0 and NAME.mask[2]"),
    _numpy("memmap of a file that is there",
        """
        import tempfile, os
        NAME_path = os.path.join(tempfile.mkdtemp(), "m.dat")
        NAME = np.memmap(NAME_path, "i4", "w+", shape=(4, 5))
        NAME[:] = 3
        NAME.flush()
        NAME_row = NAME[1]
        """,
        """
        NAME[1, 2] = 8
        NAME.flush()
        assert type(NAME) is np.memmap and np.fromfile(NAME_path, "i4")[7] == 8
        assert NAME_row[2] == 8 and str(NAME.filename) == NAME_path
        """),
    _numpy("memmap of a file that is gone",
        """
        import tempfile, os
        NAME_path = os.path.join(tempfile.mkdtemp(), "m.dat")
        NAME = np.memmap(NAME_path, "i4", "w+", shape=(4, 5))
        NAME[:] = 3
        os.remove(NAME_path)
        """,
        "NAME[0, 0] = 4\nassert NAME.sum() == 61"),
    _numpy("view over an array in another variable",
        "NAME = np.arange(10)\nNAME_view = NAME[2:8:2]",
        "NAME_view[0] = 99\nassert NAME[2] == 99 and NAME_view.base is not None"),
    _numpy("reversed view", "NAME = np.arange(6)\nNAME_back = NAME[::-1]",
        "NAME[5] = 77\nassert NAME_back[0] == 77"),
    _numpy("broadcast view", "NAME = np.broadcast_to(np.arange(3), (4, 3))",
        "assert NAME.strides[0] == 0 and not NAME.flags.writeable and NAME.sum() == 12"),
    _numpy("sliding windows", "NAME_x = np.arange(6)\n"
        "NAME = np.lib.stride_tricks.sliding_window_view(NAME_x, 3)",
        "NAME_x[2] = 50\nassert NAME[0, 2] == NAME[1, 1] == NAME[2, 0] == 50"),
    _numpy("array in Fortran's order, read-only",
        "NAME = np.asfortranarray(np.arange(6).reshape(2, 3))\nNAME.flags.writeable = False",
        """
        assert NAME.flags.f_contiguous and not NAME.flags.writeable and NAME[1, 2] == 5
        """),
    _numpy("array of objects",
        "NAME_shared = [1]\nNAME = np.array([NAME_shared, {'a': NAME_shared}, None], object)",
        "NAME_shared.append(2)\nassert NAME[0] == [1, 2] and NAME[1]['a'] is NAME[0]"),
    _numpy("datetime64 and timedelta64",
        "NAME = np.array(['2024-02-29', 'NaT'], 'M8[us]')\nNAME_step = np.timedelta64(1, 'D')",
        "assert (NAME + NAME_step)[0] == np.datetime64('2024-03-01') and np.isnat(NAME[1])"),
    _numpy("array of StringDType", "NAME = np.array(['a', 'long ' * 20], np.dtypes.StringDType())",
        "NAME[0] = 'b' * 50\nassert NAME[0] == 'b' * 50 and NAME[1].startswith('long ')"),
    _numpy("subclass of ndarray from the notebook",
        """
        class NAME_Units(np.ndarray):
            def __array_finalize__(self, other):
                self.unit = getattr(other, "unit", None)
            def __reduce__(self):
                make, args, state = super().__reduce__()
                return make, args, (state, self.unit)
            def __setstate__(self, state):
                super().__setstate__(state[0])
                self.unit = state[1]
        NAME = np.arange(3.0).view(NAME_Units)
        NAME.unit = "m"
        """,
        "assert type(NAME) is NAME_Units and (NAME * 2).unit == 'm' and NAME.sum() == 3"),
    _numpy("matrix and chararray",
        "NAME = np.matrix([[1, 2], [3, 4]])\nNAME_c = np.char.array(['ab', 'c'])",
        "assert (NAME * NAME)[0, 0] == 7 and NAME_c.upper()[0] == 'AB'"),
    _numpy("void scalar of a structure",
        "NAME_a = np.zeros(2, [('x', 'i4')])\nNAME = NAME_a[1]",
        "assert NAME['x'] == 0 and NAME.dtype.names == ('x',)"),
    _numpy("dtype with metadata", "NAME = np.dtype('f8', metadata={'unit': 'm'})",
        "assert NAME.metadata['unit'] == 'm' and np.ones(2, NAME).sum() == 2"),
    _numpy("Generator (PCG64)",
        """
        NAME = np.random.default_rng(3)
        NAME.random(5)
        NAME_next = copy.deepcopy(NAME).normal(size=4)
        """,
        "assert (NAME.normal(size=4) == NAME_next).all()"),
    _numpy("Generator (Philox) and its child",
        """
        NAME = np.random.Generator(np.random.Philox(1))
        NAME_next = copy.deepcopy(NAME).spawn(1)[0].random(3)
        """,
        "assert (NAME.spawn(1)[0].random(3) == NAME_next).all()"),
    _numpy("generators that share a bit generator",
        """
        NAME_bits = np.random.MT19937(5)
        NAME, NAME_b = np.random.Generator(NAME_bits), np.random.Generator(NAME_bits)
        NAME_next = copy.deepcopy(NAME).random(2)
        """,
        "assert (np.array([NAME.random(), NAME_b.random()]) == NAME_next).all()"),
    _numpy("RandomState",
        "NAME = np.random.RandomState(4)\nNAME.normal()\n"
        "NAME_next = copy.deepcopy(NAME).normal(size=3)",
        "assert (NAME.normal(size=3) == NAME_next).all()"),
    _numpy("SeedSequence", "NAME = np.random.SeedSequence(7)\nNAME.spawn(2)",
        "assert NAME.n_children_spawned == 2 and NAME.spawn(1)[0].spawn_key == (2,)"),
    _numpy("ufunc, and one from Python",
        "NAME = np.logaddexp\nNAME_own = np.frompyfunc(lambda a, b: a + 2 * b, 2, 1)",
        "assert NAME is np.logaddexp and NAME_own([1, 2], 3).tolist() == [7, 8]"),
    _numpy("vectorize", "NAME = np.vectorize(lambda x, y=2: x ** y, otypes=[float])",
        "assert NAME([1, 3]).tolist() == [1, 9]"),
    _numpy("array over the memory of a memmap",
        """
        import tempfile, os
        NAME_path = os.path.join(tempfile.mkdtemp(), "m.dat")
        NAME_m = np.memmap(NAME_path, "i4", "w+", shape=(6,))
        NAME = np.asarray(NAME_m)[2:]
        """,
        "NAME[0] = 5\nassert NAME_m[2] == 5 and type(NAME) is np.ndarray\n"
        "NAME_m.flush()\nassert np.fromfile(NAME_path, 'i4')[2] == 5"),
    _numpy("poly1d and Polynomial",
        "NAME = np.poly1d([1, 0, -4])\nNAME_p = np.polynomial.Polynomial([1, 2], domain=[0, 4])",
        "assert np.allclose(sorted(NAME.r), [-2, 2]) and NAME(3) == 5 and NAME_p(4) == 3"),
    _numpy("flatiter",
        "NAME_x = np.arange(6).reshape(2, 3)\nNAME = NAME_x.flat\nnext(NAME), next(NAME)",
        """
        assert NAME.base is NAME_x and NAME.index == 2 and next(NAME) == 2
        NAME[0] = 40
        assert NAME_x[0, 0] == 40
        """),
    _numpy("ndenumerate and ndindex",
        """
        NAME = np.ndenumerate(np.arange(4).reshape(2, 2))
        NAME_i = np.ndindex(2, 2)
        next(NAME), next(NAME_i)
        """,
        "assert next(NAME) == ((0, 1), 1) and next(NAME_i) == (0, 1)"),
    _numpy("nditer", "NAME = np.nditer(np.arange(3))", "", expect="named", why_not="position"),
    _numpy("broadcast", "NAME = np.broadcast(np.arange(3), np.ones((2, 1)))\nnext(NAME)",
        "assert NAME.shape == (2, 3) and NAME.index == 1 and next(NAME) == (1, 1.0)"),
    _numpy("errstate", "NAME = np.errstate(divide='raise')",
        """
        try:
            with NAME:
                np.array(1.0) / 0
        except FloatingPointError:
            pass
        else:
            assert False
        """),
    _numpy("finfo and iinfo", "NAME = np.finfo('f4')\nNAME_i = np.iinfo('i2')",
        "assert NAME.eps == np.finfo('f4').eps and NAME_i.max == 32767"),
    _numpy("busdaycalendar", "NAME = np.busdaycalendar('1111000', ['2024-01-01'])",
        "assert np.busday_count('2024-01-01', '2024-01-08', busdaycal=NAME) == 3"),
    _numpy("NpzFile, opened from a file",
        """
        import tempfile, os
        NAME_path = os.path.join(tempfile.mkdtemp(), "a.npz")
        np.savez(NAME_path, x=np.arange(3), y=np.ones(2))
        NAME = np.load(NAME_path)
        NAME["x"]
        """,
        "assert NAME['y'].sum() == 2 and sorted(NAME) == ['x', 'y'] and NAME['x'][2] == 2"),
    _numpy("results of linalg", "NAME = np.linalg.svd(np.eye(3))",
        "assert (NAME.U @ np.diag(NAME.S) @ NAME.Vh == np.eye(3)).all()"),
    _numpy("array interface over a bytearray",
        "NAME_b = bytearray(8)\nNAME = np.frombuffer(NAME_b, 'u1')",
        "NAME[3] = 5\nassert NAME_b[3] == 5"),
)  # fmt: skip


def _sparse(kind: str, use: str) -> object:
    return _scipy(f"{kind}_array",
        f"import scipy.sparse\nNAME = scipy.sparse.{kind}_array(np.diag([1.0, 2, 3, 4]))",
        f"""
        assert type(NAME) is scipy.sparse.{kind}_array
        assert (NAME @ np.ones(4)).tolist() == [1, 2, 3, 4]
        {use}
        """)  # fmt: skip


_SCIPY = (
    _sparse("csr", "NAME.data[0] = 9\n        assert NAME[0, 0] == 9 and NAME[[0]].sum() == 9"),
    _sparse("csc", "NAME.data[0] = 9\n        assert NAME[0, 0] == 9 and NAME[:, [0]].sum() == 9"),
    _sparse("coo", "NAME.row[0], NAME.col[0] = 0, 1\n        assert NAME.toarray()[0, 1] == 1"),
    _sparse("lil", "NAME[0, 3] = 5\n        assert NAME.tocsr()[0, 3] == 5"),
    _sparse("dok", "NAME[0, 3] = 5\n        assert NAME[0, 3] == 5 and NAME.nnz == 5"),
    _sparse("dia", "assert NAME.offsets.tolist() == [0] and NAME.diagonal()[3] == 4"),
    _sparse("bsr", "assert NAME.blocksize and NAME.tocsr().nnz == 4"),
    _scipy("CubicSpline, and one over the same knots",
        """
        from scipy.interpolate import CubicSpline, PchipInterpolator
        NAME_x = np.linspace(0, 3, 10)
        NAME, NAME_p = CubicSpline(NAME_x, NAME_x ** 3), PchipInterpolator(NAME_x, NAME_x)
        """,
        "assert abs(NAME(1.5) - 3.375) < 1e-9 and abs(NAME.derivative()(1.0) - 3) < 1e-6\n"
        "assert abs(NAME_p(0.7) - 0.7) < 1e-9"),
    _scipy("interp1d", "from scipy.interpolate import interp1d\n"
        "NAME = interp1d([0, 1, 2], [0, 10, 40], kind='quadratic', fill_value='extrapolate')",
        "assert abs(NAME(3) - 90) < 1e-9"),
    _scipy("BSpline and UnivariateSpline",
        """
        from scipy.interpolate import make_interp_spline, UnivariateSpline
        NAME = make_interp_spline(np.arange(6.0), np.arange(6.0) ** 2)
        NAME_u = UnivariateSpline(np.arange(6.0), np.arange(6.0) ** 2, s=0)
        """,
        "assert abs(NAME(2.5) - 6.25) < 1e-9 and abs(NAME_u(2.5) - 6.25) < 1e-9\n"
        "NAME_u.set_smoothing_factor(1)"),
    _scipy("RegularGridInterpolator",
        "from scipy.interpolate import RegularGridInterpolator\n"
        "NAME = RegularGridInterpolator(([0., 1], [0., 1]), np.array([[0., 1], [2, 3]]))",
        "assert NAME([[0.5, 0.5]])[0] == 1.5"),
    _scipy("LinearNDInterpolator",
        "from scipy.interpolate import LinearNDInterpolator\n"
        "NAME = LinearNDInterpolator([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 2, 3.])",
        "assert abs(NAME(0.5, 0.5) - 1.5) < 1e-9"),
    _scipy("RBFInterpolator", "from scipy.interpolate import RBFInterpolator\n"
        "NAME = RBFInterpolator(np.arange(5.)[:, None], np.arange(5.) ** 2)",
        "assert abs(NAME([[2.0]])[0] - 4) < 1e-6"),
    _scipy("KDTree and cKDTree",
        "from scipy.spatial import KDTree, cKDTree\nNAME_x = np.random.rand(50, 2)\n"
        "NAME, NAME_c = KDTree(NAME_x), cKDTree(NAME_x)",
        "assert NAME.query(NAME_x[7])[1] == NAME_c.query(NAME_x[7])[1] == 7\n"
        "assert len(NAME.query_ball_point(NAME_x[0], 9)) == 50"),
    _scipy("Delaunay", "from scipy.spatial import Delaunay\n"
        "NAME = Delaunay([[0, 0], [0, 1], [1, 0], [1, 1.]])",
        "assert NAME.find_simplex([0.2, 0.2]) >= 0 and len(NAME.simplices) == 2"),
    _scipy("ConvexHull and Voronoi", "from scipy.spatial import ConvexHull, Voronoi\n"
        "NAME_x = np.array([[0, 0], [0, 1], [1, 0], [1, 1.], [.5, .5]])\n"
        "NAME, NAME_v = ConvexHull(NAME_x), Voronoi(NAME_x)",
        "assert abs(NAME.volume - 1) < 1e-9 and len(NAME_v.vertices) == 4"),
    _scipy("frozen distribution", "from scipy import stats\nNAME = stats.gamma(2, scale=3)",
        "assert abs(NAME.mean() - 6) < 1e-9 and NAME.rvs(3, random_state=1).shape == (3,)\n"
        "assert abs(NAME.cdf(NAME.ppf(0.3)) - 0.3) < 1e-9"),
    _scipy("distribution from the notebook",
        """
        from scipy import stats
        class NAME_D(stats.rv_continuous):
            def _pdf(self, x):
                return 2 * x
        NAME = NAME_D(a=0, b=1, name="ramp")
        """,
        "assert abs(NAME.cdf(0.5) - 0.25) < 1e-6"),
    _scipy("gaussian_kde and multivariate_normal", "from scipy import stats\n"
        "NAME = stats.gaussian_kde(np.arange(10.))\n"
        "NAME_m = stats.multivariate_normal([0, 0], np.eye(2))",
        "assert NAME(4.5)[0] > NAME(20)[0] and abs(NAME_m.pdf([0, 0]) - 0.1592) < 1e-3"),
    _scipy("Sobol, going on", "from scipy.stats import qmc\nimport copy\n"
        "NAME = qmc.Sobol(2, seed=1)\nNAME.random(4)\nNAME_next = copy.deepcopy(NAME).random(4)",
        "assert (NAME.random(4) == NAME_next).all()"),
    _scipy("OptimizeResult", "from scipy.optimize import minimize\n"
        "NAME = minimize(lambda x: (x[0] - 3) ** 2, [0.0])",
        "assert NAME.success and abs(NAME.x[0] - 3) < 1e-4 and NAME.hess_inv.shape == (1, 1)"),
    _scipy("OdeSolution, and a solver half way",
        """
        from scipy.integrate import solve_ivp, RK45
        NAME = solve_ivp(lambda t, y: -y, (0, 2), [1.0], dense_output=True)
        NAME_solver = RK45(lambda t, y: -y, 0, [1.0], 2)
        NAME_solver.step()
        """,
        """
        assert abs(NAME.sol(1.0)[0] - np.exp(-1)) < 1e-2
        t = NAME_solver.t
        NAME_solver.step()
        assert NAME_solver.t > t > 0
        """),
    _scipy("Rotation and Slerp", "from scipy.spatial.transform import Rotation, Slerp\n"
        "NAME = Rotation.from_rotvec([[0, 0, 0], [0, 0, np.pi / 2]])\nNAME_s = Slerp([0, 1], NAME)",
        "assert np.allclose(NAME[1].apply([1, 0, 0]), [0, 1, 0])\n"
        "assert np.allclose(NAME_s(0.5).as_euler('zyx', degrees=True)[0], 45)"),
    _scipy("LinearOperator", "from scipy.sparse.linalg import LinearOperator\n"
        "NAME = LinearOperator((2, 2), matvec=lambda v: 2 * v)",
        "assert (NAME @ np.ones(2)).tolist() == [2, 2] and ((NAME * 3) @ np.ones(2))[0] == 6"),
    _scipy("SuperLU", "import scipy.sparse\nfrom scipy.sparse.linalg import splu\n"
        "NAME = splu(scipy.sparse.csc_array(np.diag([1.0, 2])))",
        "", expect="named", why_not="factorization"),
    _scipy("lti system", "from scipy import signal\nNAME = signal.lti([1.0], [1, 1.0])",
        "assert NAME.poles.tolist() == [-1] and NAME.step()[1][-1] > 0.9"),
)  # fmt: skip

ROWS = (*_NUMPY, *_SCIPY)
