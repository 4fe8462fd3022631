"""Rows of libraries for statistics and machine learning."""

from __future__ import annotations

from library import Library

_sklearn = Library("sklearn", "import numpy as np, sklearn", needs=("sklearn", "numpy"))
_xgboost = Library("xgboost", "import numpy as np, xgboost as xgb", needs=("xgboost", "numpy"))
_lightgbm = Library("lightgbm", "import numpy as np, lightgbm as lgb", needs=("lightgbm", "numpy"))
_stats = Library("statsmodels", "import numpy as np, statsmodels.api as sm")
_torch = Library("torch", "import copy, torch\nfrom torch import nn")
_jax = Library("jax", "import jax, jax.numpy as jnp")
_transformers = Library("transformers", "import transformers", needs=("transformers", "torch"))
_datasets = Library("datasets", "import datasets")

_XY = "NAME_x = np.arange(40.).reshape(20, 2) % 7\nNAME_y = (NAME_x[:, 0] > 3).astype(int)\n"

_SKLEARN = (
    _sklearn("LinearRegression", "from sklearn.linear_model import LinearRegression\n" + _XY
        + "NAME = LinearRegression().fit(NAME_x, NAME_x @ [2., 3.])",
        "assert np.allclose(NAME.predict([[1, 1]]), 5)\nNAME.fit(NAME_x, NAME_y)"),
    _sklearn("RandomForestClassifier, growing on",
        "from sklearn.ensemble import RandomForestClassifier\n" + _XY
        + "NAME = RandomForestClassifier(5, random_state=0, warm_start=True).fit(NAME_x, NAME_y)\n"
        "NAME_was = NAME.predict_proba(NAME_x)",
        "assert (NAME.predict_proba(NAME_x) == NAME_was).all()\n"
        "NAME.set_params(n_estimators=7).fit(NAME_x, NAME_y)\nassert len(NAME.estimators_) == 7"),
    _sklearn("SGDClassifier, learning on", "from sklearn.linear_model import SGDClassifier\n" + _XY
        + "NAME = SGDClassifier(random_state=0).partial_fit(NAME_x, NAME_y, classes=[0, 1])",
        "t = NAME.t_\nNAME.partial_fit(NAME_x, NAME_y)\nassert NAME.t_ > t"),
    _sklearn("HistGradientBoostingRegressor",
        "from sklearn.ensemble import HistGradientBoostingRegressor\n" + _XY
        + "NAME = HistGradientBoostingRegressor(max_iter=5).fit(NAME_x, NAME_y)\n"
        "NAME_was = NAME.predict(NAME_x)",
        "assert (NAME.predict(NAME_x) == NAME_was).all()"),
    _sklearn("SVC and KNeighborsClassifier",
        "from sklearn.svm import SVC\nfrom sklearn.neighbors import KNeighborsClassifier\n" + _XY
        + "NAME, NAME_k = SVC().fit(NAME_x, NAME_y), KNeighborsClassifier(1).fit(NAME_x, NAME_y)",
        "assert NAME.score(NAME_x, NAME_y) > 0.9 and NAME_k.score(NAME_x, NAME_y) == 1"),
    _sklearn("SVC with a kernel of the notebook", "from sklearn.svm import SVC\n" + _XY
        + "NAME = SVC(kernel=lambda a, b: a @ b.T).fit(NAME_x, NAME_y)",
        "assert NAME.predict(NAME_x).shape == (20,)"),
    _sklearn("Pipeline with a memory", "import tempfile\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\nfrom sklearn.linear_model import Ridge\n"
        + _XY + "NAME = make_pipeline(StandardScaler(), Ridge(), memory=tempfile.mkdtemp())"
        ".fit(NAME_x, NAME_y)",
        "assert NAME.predict(NAME_x).shape == (20,)\nNAME.fit(NAME_x, NAME_y)\n"
        "assert NAME.named_steps['ridge'] is NAME[-1]"),
    _sklearn("ColumnTransformer with a function of the notebook",
        "import pandas as pd\nfrom sklearn.compose import ColumnTransformer\n"
        "from sklearn.preprocessing import FunctionTransformer, OneHotEncoder\n"
        "NAME_df = pd.DataFrame({'n': [1., 2], 'c': ['a', 'b']})\n"
        "NAME = ColumnTransformer([('n', FunctionTransformer(lambda x: x * 10), ['n']),"
        " ('c', OneHotEncoder(), ['c'])]).fit(NAME_df)",
        "assert NAME.transform(NAME_df).tolist() == [[10, 1, 0], [20, 0, 1]]", "pandas"),
    _sklearn("GridSearchCV", "from sklearn.model_selection import GridSearchCV\n"
        "from sklearn.tree import DecisionTreeClassifier\n" + _XY
        + "NAME = GridSearchCV(DecisionTreeClassifier(), {'max_depth': [1, 3]}, cv=2)"
        ".fit(NAME_x, NAME_y)",
        "assert NAME.best_params_ and NAME.predict(NAME_x).shape == (20,)\n"
        "NAME.fit(NAME_x, NAME_y)"),
    _sklearn("KMeans, PCA and TSNE", "from sklearn.cluster import KMeans\n"
        "from sklearn.decomposition import PCA\n" + _XY
        + "NAME, NAME_p = KMeans(2, n_init=1).fit(NAME_x), PCA(1).fit(NAME_x)",
        "assert NAME.predict(NAME_x).tolist() == NAME.labels_.tolist()\n"
        "assert NAME_p.transform(NAME_x).shape == (20, 1)"),
    _sklearn("GaussianProcessRegressor",
        "from sklearn.gaussian_process import GaussianProcessRegressor\n" + _XY
        + "NAME = GaussianProcessRegressor(alpha=0.1).fit(NAME_x, NAME_y)",
        "assert NAME.sample_y([[1., 1]]).shape == (1, 1)"),
    _sklearn("TfidfVectorizer with a tokenizer of the notebook",
        "from sklearn.feature_extraction.text import TfidfVectorizer\n"
        "NAME = TfidfVectorizer(tokenizer=lambda s: s.split('-'), token_pattern=None)"
        ".fit(['a-b', 'b-c'])",
        "assert NAME.transform(['b-x']).nnz == 1"),
    _sklearn("KDTree and BallTree", "from sklearn.neighbors import KDTree, BallTree\n"
        "NAME, NAME_b = KDTree(np.eye(3)), BallTree(np.eye(3))",
        "assert NAME.query([[1., 0, 0]])[1][0, 0] == NAME_b.query([[1., 0, 0]])[1][0, 0] == 0"),
    _sklearn("estimator from the notebook", """
        from sklearn.base import BaseEstimator, RegressorMixin, clone
        class NAME_E(RegressorMixin, BaseEstimator):
            def __init__(self, plus=1):
                self.plus = plus
            def fit(self, x, y):
                self.mean_ = y.mean()
                return self
            def predict(self, x):
                return np.full(len(x), self.mean_ + self.plus)
        NAME = NAME_E(2).fit(np.ones((2, 1)), np.array([1., 3]))
        """,
        "from sklearn.base import clone\nassert NAME.predict([[0]])[0] == 4\n"
        "assert type(clone(NAME)) is NAME_E and NAME.get_params() == {'plus': 2}"),
    _sklearn("splits being iterated", "from sklearn.model_selection import KFold\n"
        "NAME_k = KFold(2)\nNAME = NAME_k.split(np.arange(4))\nnext(NAME)", "",
        expect="named", why_not="running code"),
    _sklearn("scorer and Bunch", "from sklearn.metrics import make_scorer, r2_score\n"
        "from sklearn.datasets import load_iris\nNAME = make_scorer(r2_score)\n"
        "NAME_b = load_iris()",
        "from sklearn.linear_model import Ridge\n"
        "assert NAME(Ridge().fit(NAME_b.data, NAME_b.target), NAME_b.data, NAME_b.target) > 0.9"),
)  # fmt: skip

_XGB = (
    _xgboost("Booster, training on", _XY
        + "NAME_d = xgb.DMatrix(NAME_x, NAME_y)\n"
        "NAME = xgb.train({'objective': 'binary:logistic'}, NAME_d, 3)\nNAME.set_attr(note='n')\n"
        "NAME_was = NAME.inplace_predict(NAME_x)",
        "assert (NAME.inplace_predict(NAME_x) == NAME_was).all() and NAME.attr('note') == 'n'\n"
        "more = xgb.train({'objective': 'binary:logistic'}, xgb.DMatrix(NAME_x, NAME_y), 2, "
        "xgb_model=NAME)\n"
        "assert more.num_boosted_rounds() == 5"),
    _xgboost("DMatrix", _XY + "NAME = xgb.DMatrix(NAME_x, NAME_y, weight=np.ones(20),"
        " feature_names=['a', 'b'])",
        "assert NAME.num_row() == 20 and NAME.feature_names == ['a', 'b']\n"
        "assert (NAME.get_label() == NAME_y).all() and NAME.get_weight().sum() == 20\n"
        "assert xgb.train({}, NAME, 1).num_boosted_rounds() == 1"),
    _xgboost("XGBClassifier", _XY + "NAME = xgb.XGBClassifier(n_estimators=3).fit(NAME_x, NAME_y)\n"
        "NAME_was = NAME.predict_proba(NAME_x)",
        "assert (NAME.predict_proba(NAME_x) == NAME_was).all() and NAME.classes_.tolist() == "
        "[0, 1]\n"
        "NAME.fit(NAME_x, NAME_y)", "sklearn"),
    _xgboost("XGBRegressor with an objective of the notebook", _XY
        + "NAME = xgb.XGBRegressor(n_estimators=2, objective=lambda t, p: (p - t, np.ones_like(p)))"
        ".fit(NAME_x, NAME_y)", "NAME.fit(NAME_x, NAME_y)\n"
        "assert NAME.predict(NAME_x).shape == (20,)",
        "sklearn"),
)  # fmt: skip

_LGB_PARAMS = "{'objective': 'binary', 'verbose': -1, 'min_data_in_leaf': 1}"
_LGB = (
    _lightgbm("Booster, training on", _XY
        + f"NAME_d = lgb.Dataset(NAME_x, NAME_y)\nNAME = lgb.train({_LGB_PARAMS}, NAME_d, 3)\n"
        "NAME_was = NAME.predict(NAME_x)",
        "assert (NAME.predict(NAME_x) == NAME_was).all() and NAME.num_trees() == 3\n"
        f"more = lgb.train({_LGB_PARAMS}, lgb.Dataset(NAME_x, NAME_y), 2, init_model=NAME)\n"
        "assert more.num_trees() == 5 or more.current_iteration() == 2"),
    _lightgbm("Dataset not constructed", _XY + "NAME = lgb.Dataset(NAME_x, NAME_y, "
        "weight=np.ones(20))",
        f"assert lgb.train({_LGB_PARAMS}, NAME, 2).num_trees() == 2"),
    _lightgbm("Dataset constructed", _XY + "NAME = lgb.Dataset(NAME_x, NAME_y,"
        " free_raw_data=False, params={'verbose': -1}).construct()",
        f"assert NAME.num_data() == 20 and lgb.train({_LGB_PARAMS}, NAME, 2).num_trees() == 2"),
    _lightgbm("LGBMClassifier", _XY
        + "NAME = lgb.LGBMClassifier(n_estimators=3, verbose=-1, min_child_samples=1)"
        ".fit(NAME_x, NAME_y)\nNAME_was = NAME.predict_proba(NAME_x)",
        "assert (NAME.predict_proba(NAME_x) == NAME_was).all()\nNAME.fit(NAME_x, NAME_y)",
        "sklearn"),
)  # fmt: skip

_OLS = "NAME_x = sm.add_constant(np.arange(10.))\nNAME_y = NAME_x @ [1., 2.] + np.arange(10) % 3\n"
_STATS = (
    _stats("OLS and its results", _OLS + "NAME_m = sm.OLS(NAME_y, NAME_x)\nNAME = NAME_m.fit()",
        "assert 'R-squared' in NAME.summary().as_text() and NAME.model is NAME_m\n"
        "assert NAME.predict([[1, 0.]]).shape == (1,) and "
        "NAME.get_robustcov_results().bse.shape == (2,)"),
    _stats("results by a formula", "import pandas as pd, statsmodels.formula.api as smf\n"
        "NAME = smf.ols('y ~ x + I(x ** 2)', pd.DataFrame({'x': range(9), 'y': np.arange(9) ** 2}))"
        ".fit()", "import pandas as pd\n"
        "assert abs(NAME.predict(pd.DataFrame({'x': [3]}))[0] - 9) < 1e-6", "pandas"),
    _stats("GLM results", _OLS + "NAME = sm.GLM(NAME_y > 8, NAME_x, "
        "sm.families.Binomial()).fit_regularized(alpha=0.1)",
        "assert len(NAME.params) == 2"),
    _stats("ARIMA results", "from statsmodels.tsa.arima.model import ARIMA\n"
        "NAME = ARIMA(np.sin(np.arange(40.)), order=(1, 0, 0)).fit()\nNAME_was = NAME.forecast(3)",
        "assert np.allclose(NAME.forecast(3), NAME_was)\nassert NAME.append([0.1]).nobs == 41"),
)  # fmt: skip

_NET = """
        class NAME_Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(2, 3)
                self.register_buffer("seen", torch.zeros(1))
                self.tied = self.fc
            def forward(self, x):
                self.seen += 1
                return self.fc(x).relu().sum()
        NAME = NAME_Net()
"""
_STEP = """
        before = NAME.weight.detach().clone()
        NAME_o.zero_grad()
        NAME(torch.ones(1, 2)).pow(2).sum().backward()
        NAME_o.step()
        assert not torch.equal(before, NAME.weight)
"""
_TORCH = (
    _torch("Module from the notebook", _NET, """
        NAME(torch.ones(2)).backward()
        assert NAME.seen == 1 and NAME.fc.weight.grad is not None and NAME.tied is NAME.fc
        assert set(NAME.state_dict()) >= {"fc.weight", "seen"}
        """),
    _torch("Sequential, ModuleList, ModuleDict and ParameterList",
        "NAME = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.1))\n"
        "NAME_l = nn.ModuleList([NAME, nn.ModuleDict({'a': nn.ReLU()})])\n"
        "NAME_p = nn.ParameterList([torch.ones(2)])\nNAME.eval()",
        "assert NAME_l[0] is NAME and not NAME.training and len(list(NAME_p.parameters())) == 1\n"
        "assert NAME(torch.ones(1, 1, 5, 5)).shape == (1, 2, 3, 3)"),
    _torch("SGD of the parameters of a model", "NAME = nn.Linear(2, 1)\n"
        "NAME_o = torch.optim.SGD(NAME.parameters(), lr=0.1, momentum=0.9)\n"
        "NAME(torch.ones(1, 2)).sum().backward()\nNAME_o.step()",
        _STEP + "        assert NAME_o.param_groups[0]['params'][0] is NAME.weight"),
    _torch("Adam with a scheduler", "NAME = nn.Linear(2, 1)\n"
        "NAME_o = torch.optim.AdamW(NAME.parameters(), lr=0.1)\n"
        "NAME_s = torch.optim.lr_scheduler.LambdaLR(NAME_o, lambda e: 0.5 ** e)\n"
        "NAME(torch.ones(1, 2)).sum().backward()\nNAME_o.step(); NAME_s.step()",
        _STEP + "        NAME_s.step()\n"
        "        assert NAME_s.optimizer is NAME_o and NAME_o.param_groups[0]['lr'] == 0.025"),
    _torch("schedulers", "NAME_o = torch.optim.SGD([torch.ones(1, requires_grad=True)], 1.0)\n"
        "NAME = torch.optim.lr_scheduler.OneCycleLR(NAME_o, 1.0, total_steps=10)\n"
        "NAME_o2 = torch.optim.SGD([torch.ones(1, requires_grad=True)], 1.0)\n"
        "NAME_p = torch.optim.lr_scheduler.ReduceLROnPlateau(NAME_o2, patience=0)\n"
        "NAME_p.step(1.0)",
        "NAME_o.step()\nNAME.step()\nNAME_p.step(2.0)\n"
        "assert NAME_o2.param_groups[0]['lr'] == 0.1 and NAME.last_epoch == 1\n"
        "import warnings\nwith warnings.catch_warnings(record=True) as w:\n"
        "    warnings.simplefilter('always')\n    NAME_o.step()\n    NAME.step()\nassert not w"),
    _torch("LBFGS", "NAME = nn.Linear(2, 1)\n"
        "NAME_o = torch.optim.LBFGS(NAME.parameters(), max_iter=2)\n"
        "NAME_f = lambda: (NAME_o.zero_grad(), NAME(torch.ones(1, 2)).pow(2).sum())[1]\n"
        "def NAME_c():\n    loss = NAME_f()\n    loss.backward()\n    return loss\n"
        "NAME_o.step(NAME_c)",
        "was = NAME_f().item()\nNAME_o.step(NAME_c)\nassert NAME_f().item() <= was"),
    _torch("swa_utils.AveragedModel", "NAME_m = nn.Linear(1, 1)\n"
        "NAME = torch.optim.swa_utils.AveragedModel(NAME_m)",
        "NAME.update_parameters(NAME_m)\nassert NAME.n_averaged == 1"),
    _torch("DataLoader", "from torch.utils.data import DataLoader, TensorDataset\n"
        "NAME_d = TensorDataset(torch.arange(6.))\n"
        "NAME = DataLoader(NAME_d, 2, shuffle=True, collate_fn=lambda b: len(b),"
        " generator=torch.Generator().manual_seed(0))",
        "assert list(NAME) == [2, 2, 2] and NAME.dataset is NAME_d"),
    _torch("DataLoader with workers", "from torch.utils.data import DataLoader\n"
        "NAME = DataLoader(list(range(4)), 2, num_workers=1, persistent_workers=True)\nlist(NAME)",
        "assert [b.tolist() for b in NAME] == [[0, 1], [2, 3]]\nNAME._iterator = None"),
    _torch("iterator of a DataLoader", "from torch.utils.data import DataLoader\n"
        "NAME_l = DataLoader(list(range(6)), 2)\nNAME = iter(NAME_l)\nnext(NAME)",
        "assert next(NAME).tolist() == [2, 3] and len(list(NAME)) == 1"),
    _torch("iterator of a shuffled DataLoader", "from torch.utils.data import DataLoader\n"
        "NAME = iter(DataLoader(list(range(6)), 2, shuffle=True))\nNAME_first = next(NAME)",
        "rest = [i for b in NAME for i in b.tolist()]\n"
        "assert sorted(rest + NAME_first.tolist()) == list(range(6))"),
    _torch("iterator of a DataLoader with workers", "from torch.utils.data import DataLoader\n"
        "NAME = iter(DataLoader(list(range(6)), 2, num_workers=1))\nnext(NAME)", "",
        expect="named", why_not="worker"),
    _torch("Dataset from the notebook, Subset and split", """
        from torch.utils.data import Dataset, random_split, WeightedRandomSampler
        class NAME_D(Dataset):
            def __len__(self):
                return 4
            def __getitem__(self, i):
                return i * 10
        NAME_d = NAME_D()
        NAME, NAME_b = random_split(NAME_d, [3, 1])
        NAME_s = WeightedRandomSampler([1., 0], 3)
        """, "assert NAME.dataset is NAME_b.dataset is NAME_d and NAME[0] % 10 == 0\n"
        "assert list(NAME_s) == [0, 0, 0]"),
    _torch("Generator", "NAME = torch.Generator().manual_seed(5)\ntorch.rand(3, generator=NAME)\n"
        "NAME_state = NAME.get_state()",
        "g = torch.Generator()\ng.set_state(NAME_state)\n"
        "assert torch.equal(torch.rand(4, generator=NAME), torch.rand(4, generator=g))"),
    _torch("scripted module", _NET + "        NAME = torch.jit.script(nn.Linear(2, 1))",
        "assert isinstance(NAME, torch.jit.ScriptModule) and NAME(torch.ones(2)).shape == (1,)\n"
        "NAME(torch.ones(2)).backward()\nassert NAME.weight.grad is not None"),
    _torch("traced module", "NAME_l = nn.Linear(2, 1)\n"
        "NAME = torch.jit.trace(NAME_l, torch.ones(2))\n"
        "NAME_was = NAME(torch.ones(2)).item()",
        "assert NAME(torch.ones(2)).item() == NAME_was and isinstance(NAME, "
        "torch.jit.ScriptModule)"),
    _torch("scripted function", "def NAME_f(x: torch.Tensor, n: int):\n    return x * n\n"
        "NAME = torch.jit.script(NAME_f)", "assert NAME(torch.ones(2), 3).tolist() == [3, 3]"),
    _torch("compiled module", "NAME = torch.compile(nn.Linear(2, 1), backend='eager')",
        "assert NAME(torch.ones(2)).shape == (1,) and hasattr(NAME, '_orig_mod')"),
    _torch("compiled function", "@torch.compile(backend='eager')\ndef NAME(x):\n    return x * 2",
        "assert NAME(torch.ones(1)).item() == 2"),
    _torch("tensor with a graph", "NAME_w = torch.ones(2, requires_grad=True)\n"
        "NAME = (NAME_w * 3).sum()",
        "assert NAME.item() == 6 and NAME.grad_fn is None and not NAME.requires_grad\n"
        "try:\n    NAME.backward()\nexcept RuntimeError as why:\n    assert 'grad' in str(why)\n"
        "else:\n    assert False\n"
        "(NAME_w * 3).sum().backward()\nassert NAME_w.grad.tolist() == [3, 3]"),
    _torch("node of a graph", "NAME = (torch.ones(1, requires_grad=True) * 2).grad_fn", "",
        expect="named", why_not="graph"),
    _torch("Function from the notebook", """
        class NAME(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * 2
            @staticmethod
            def backward(ctx, g):
                return g * 7
        """, "x = torch.ones(1, requires_grad=True)\nNAME.apply(x).backward()\n"
        "assert x.grad.item() == 7"),
    _torch("hooks of a module and of a tensor", "NAME_seen = []\nNAME = nn.Linear(1, 1)\n"
        "NAME_h = NAME.register_forward_hook(lambda m, i, o: NAME_seen.append(1))\n"
        "NAME_t = torch.ones(1, requires_grad=True)\nNAME_t.register_hook(lambda g: g * 5)",
        "NAME(torch.ones(1))\nassert NAME_seen == [1]\nNAME_h.remove()\nNAME(torch.ones(1))\n"
        "assert NAME_seen == [1]\n(NAME_t * 1).sum().backward()\nassert NAME_t.grad.item() == 5"),
    _torch("sparse tensors", "NAME = torch.eye(3).to_sparse()\n"
        "NAME_c = torch.eye(3).to_sparse_csr()",
        "assert NAME.is_sparse and (NAME @ torch.ones(3, 1)).sum() == 3\n"
        "assert NAME_c.layout is torch.sparse_csr and (NAME_c @ torch.ones(3)).sum() == 3"),
    _torch("Parameter, Buffer and uninitialized", "NAME = nn.Parameter(torch.ones(2))\n"
        "NAME_l = nn.LazyLinear(3)\nNAME_b = nn.Buffer(torch.ones(1))",
        "assert isinstance(NAME, nn.Parameter) and NAME.requires_grad\n"
        "assert isinstance(NAME_b, nn.Buffer) and NAME_l(torch.ones(1, 2)).shape == (1, 3)"),
    _torch("quantized tensor", "import warnings; warnings.simplefilter('ignore')\n"
        "NAME = torch.quantize_per_tensor(torch.tensor([1., 2]), 0.1, 0, torch.qint8)",
        "assert NAME.q_scale() == 0.1 and torch.allclose(NAME.dequantize(), torch.tensor([1., "
        "2]))"),
    _torch("nested tensor", "NAME = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)],"
        " layout=torch.jagged)", "assert [len(t) for t in NAME.unbind()] == [2, 3] and (NAME * "
        "2).sum() == 10"),
    _torch("views and tied storages", "NAME = torch.zeros(4)\nNAME_v = NAME.view(2, 2)\n"
        "NAME_n = NAME.numpy()", "NAME_v[0, 1] = 5\nassert NAME[1] == 5 and NAME_n[1] == 5",
        "numpy"),
    _torch("subclass of Tensor from the notebook", "class NAME_T(torch.Tensor):\n    pass\n"
        "NAME = torch.ones(2).as_subclass(NAME_T)\nNAME.unit = 'm'",
        "assert type(NAME + 1) is NAME_T and NAME.unit == 'm'"),
    _torch("dtype, device, Size and memory format", "NAME = [torch.float16, torch.device('cpu'),"
        " torch.Size([2, 3]), torch.channels_last, torch.strided]",
        "assert NAME[0] is torch.float16 and NAME[2].numel() == 6 and NAME[3] is "
        "torch.channels_last"),
    _torch("GradScaler and autocast", "NAME = torch.amp.GradScaler('cpu', init_scale=8.)\n"
        "NAME.scale(torch.ones(1))\nNAME_a = torch.autocast('cpu', torch.bfloat16)",
        "assert NAME.get_scale() == 8 and NAME.scale(torch.ones(1)).item() == 8\n"
        "with NAME_a:\n    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16"),
    _torch("distribution and transform", "NAME = torch.distributions.Normal(torch.zeros(1), "
        "torch.ones(1))\n"
        "NAME_t = torch.distributions.TransformedDistribution(NAME, "
        "torch.distributions.ExpTransform())",
        "assert abs(NAME.log_prob(torch.zeros(1)).item() + 0.9189) < 1e-3 and "
        "NAME_t.sample().item() > 0"),
    _torch("no_grad, and a profiler that has ended", "NAME = torch.no_grad()\n"
        "NAME_p = torch.profiler.profile()", "with NAME:\n    assert not torch.is_grad_enabled()"),
    _torch("parametrized module", "from torch.nn.utils import parametrizations\n"
        "NAME = parametrizations.weight_norm(nn.Linear(2, 1))\n"
        "NAME_was = NAME(torch.ones(2)).item()",
        "NAME(torch.ones(2)).backward()\n"
        "assert NAME.parametrizations.weight.original0.grad is not None\n"
        "assert NAME(torch.ones(2)).item() == NAME_was and NAME.weight.shape == (1, 2)"),
    _torch("pruned module", "from torch.nn.utils import prune\nNAME = nn.Linear(2, 2)\n"
        "NAME_p = prune.l1_unstructured(NAME, 'weight', 0.5)",
        "assert (NAME_p.weight == 0).sum() == 2\nNAME_p(torch.ones(2)).sum().backward()"),
    _torch("exported program and symbolic trace",
        "import torch.fx\nNAME = torch.fx.symbolic_trace(nn.Linear(2, 1))\nNAME_g = NAME.graph",
        "assert NAME(torch.ones(2)).shape == (1,) and NAME.graph is NAME_g and 'linear' in "
        "NAME.code"
        " or 'weight' in NAME.code"),
    _torch("PackedSequence and state_dict", "NAME = nn.utils.rnn.pack_sequence([torch.ones(2), "
        "torch.ones(1)])\n"
        "NAME_s = nn.Linear(1, 1).state_dict()",
        "assert nn.utils.rnn.pad_packed_sequence(NAME)[1].tolist() == [2, 1]\n"
        "nn.Linear(1, 1).load_state_dict(NAME_s)"),
    _torch("Transformer and LSTM", "NAME = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, "
        "2, 8), 1)\n"
        "NAME_l = nn.LSTM(2, 3, 2)", "assert NAME(torch.ones(1, 1, 4)).shape == (1, 1, 4)\n"
        "NAME_l(torch.ones(2, 1, 2))[0].sum().backward()"),
    _torch("functional call and vmap", "NAME = torch.func.vmap(lambda x: x * 2)\n"
        "NAME_g = torch.func.grad(lambda x: x ** 3)",
        "assert NAME(torch.ones(2)).tolist() == [2, 2] and NAME_g(torch.tensor(2.)).item() == 12"),
)  # fmt: skip

_JAX = (
    _jax("Array", "NAME = jnp.arange(3.0)", "assert (NAME * 2).tolist() == [0, 2, 4]"),
    _jax("PRNG keys, old and new", "NAME = jax.random.key(3)\nNAME_old = jax.random.PRNGKey(3)\n"
        "NAME_next = jax.random.normal(NAME, (2,)).tolist()",
        "assert jax.random.normal(NAME, (2,)).tolist() == NAME_next\n"
        "assert jax.random.normal(NAME_old, (2,)).tolist() == NAME_next"),
    _jax("jitted function", "@jax.jit\ndef NAME(x):\n    return x * 2 + 1\nNAME(1.0)",
        "assert NAME(3.0) == 7 and hasattr(NAME, 'lower')"),
    _jax("jitted function with static arguments", "import functools\n"
        "@functools.partial(jax.jit, static_argnames='n')\ndef NAME(x, n):\n    return x ** n\n"
        "NAME(2., n=3)",
        "assert NAME(2.0, n=4) == 16"),
    _jax("grad and vmap", "NAME = jax.grad(lambda x: x ** 3)\nNAME_v = jax.vmap(lambda x: x + 1)",
        "assert NAME(2.0) == 12 and NAME_v(jnp.zeros(2)).tolist() == [1, 1]"),
    _jax("jit of grad of a function in another variable", "def NAME_loss(w):\n"
        "    return (w ** 2).sum()\n"
        "NAME = jax.jit(jax.value_and_grad(NAME_loss))\nNAME(jnp.ones(2))",
        "assert NAME(jnp.ones(2))[1].tolist() == [2, 2]"),
    _jax("pytree registered by the notebook", """
        @jax.tree_util.register_pytree_node_class
        class NAME_P:
            def __init__(self, a):
                self.a = a
            def tree_flatten(self):
                return (self.a,), None
            @classmethod
            def tree_unflatten(cls, aux, children):
                return cls(*children)
        NAME = NAME_P(jnp.ones(2))
        """, "assert jax.tree.map(lambda x: x + 1, NAME).a.tolist() == [2, 2]"),
    _jax("tree definition and ShapeDtypeStruct", "NAME = jax.tree.structure({'a': [1, 2]})\n"
        "NAME_s = jax.ShapeDtypeStruct((2,), jnp.float32)",
        "assert jax.tree.unflatten(NAME, [3, 4]) == {'a': [3, 4]} and NAME_s.shape == (2,)"),
    _jax("Device and sharding", "NAME = jax.devices()[0]\n"
        "NAME_s = jax.sharding.SingleDeviceSharding(NAME)",
        "assert NAME is jax.devices()[0]\n"
        "assert jax.device_put(1.0, NAME_s).devices() == {NAME}"),
    _jax("jaxpr", "NAME = jax.make_jaxpr(lambda x: x * 2)(1.0)",
        "",
        expect="named", why_not="jax"),
    _jax("compiled function", "NAME = jax.jit(lambda x: x * 2).lower(1.0).compile()", "",
        expect="named", why_not="compile"),
)  # fmt: skip

_TRANSFORMERS = (
    _transformers("config", "NAME = transformers.BertConfig(hidden_size=8, num_attention_heads=2,"
        " num_hidden_layers=1, intermediate_size=8, vocab_size=20)",
        "assert transformers.BertModel(NAME).config.hidden_size == 8"),
    _transformers("model from a config", "import torch\n"
        "NAME = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2,"
        " vocab_size=20, n_positions=16))\n"
        "NAME_was = NAME.eval()(torch.tensor([[1, 2]])).logits.detach()",
        "import torch\nout = NAME(torch.tensor([[1, 2]]), labels=torch.tensor([[1, 2]]))\n"
        "assert torch.allclose(out.logits, NAME_was)\nout.loss.backward()\n"
        "assert NAME.transformer.wte.weight is NAME.lm_head.weight\n"
        "assert NAME.generate(torch.tensor([[1]]), max_new_tokens=2, do_sample=False, "
        "pad_token_id=0).shape[1] <= 3"),
    _transformers("tokenizer", """
        import tempfile
        from tokenizers import Tokenizer, models, pre_tokenizers
        NAME_t = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
        NAME_t.pre_tokenizer = pre_tokenizers.Whitespace()
        NAME = transformers.PreTrainedTokenizerFast(
            tokenizer_object=NAME_t, unk_token="?", pad_token="?")
        """, "assert NAME('b a x')['input_ids'] == [1, 0, 2] and NAME_t.encode('a').ids == [0]\n"
        "assert NAME(['a', 'a b'], padding=True)['input_ids'][0] == [0, 2]"),
    _transformers("BatchEncoding and ModelOutput", "import torch\n"
        "NAME = transformers.BatchEncoding({'input_ids': torch.ones(1, 2)})\n"
        "NAME_o = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=torch.ones(1))",
        "assert NAME.input_ids.sum() == 2 and NAME_o[0].item() == 1 and "
        "NAME_o.last_hidden_state is NAME_o[0]"),
    _transformers("TrainingArguments", "import tempfile\n"
        "NAME = transformers.TrainingArguments(tempfile.mkdtemp(), report_to=[], use_cpu=True)",
        "assert NAME.device.type == 'cpu' and NAME.learning_rate == 5e-5", "accelerate"),
)  # fmt: skip

_DATASETS = (
    _datasets("Dataset", "NAME = datasets.Dataset.from_dict({'a': [1, 2, 3]}).filter(lambda r: "
        "r['a'] > 1)",
        "assert NAME['a'][:] == [2, 3] and NAME.map(lambda r: {'b': r['a'] * 2})['b'][:] == [4, "
        "6]"),
    _datasets("DatasetDict", "NAME = datasets.Dataset.from_dict({'a': [1, 2, 3, "
        "4]}).train_test_split(0.5)",
        "assert len(NAME['train']) == 2 and sorted(NAME) == ['test', 'train']"),
    _datasets("IterableDataset", "NAME = datasets.Dataset.from_dict({'a': [1, 2, "
        "3]}).to_iterable_dataset()"
        ".map(lambda r: {'b': r['a'] + 1})", "assert [r['b'] for r in NAME] == [2, 3, 4]"),
    _datasets("Features", "NAME = datasets.Features({'x': datasets.Value('int8'),"
        " 'c': datasets.ClassLabel(names=['n', 'y'])})",
        "assert NAME['c'].str2int('y') == 1 and NAME.arrow_schema.names == ['x', 'c']"),
    _datasets("Dataset on disk", "import tempfile\nNAME_dir = tempfile.mkdtemp()\n"
        "datasets.Dataset.from_dict({'a': [5, 6]}).save_to_disk(NAME_dir)\n"
        "NAME = datasets.load_from_disk(NAME_dir).with_format('numpy')",
        "assert NAME['a'][:].sum() == 11"),
)  # fmt: skip

ROWS = (*_SKLEARN, *_XGB, *_LGB, *_STATS, *_TORCH, *_JAX, *_TRANSFORMERS, *_DATASETS)
