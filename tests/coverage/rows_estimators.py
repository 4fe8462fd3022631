"""Rows of scikit-learn's estimators: fitted, they give the same as before, and can be fitted on."""

from __future__ import annotations

from library import Library
from row import Row

_sklearn = Library("sklearn", "import numpy as np, sklearn", needs=("sklearn", "numpy"))
_DATA = (
    "NAME_x = np.random.default_rng(0).normal(size=(40, 3))\n"
    "NAME_y = (NAME_x[:, 0] + NAME_x[:, 1] > 0).astype(int)\n"
)


def _fitted(module: str, made: str, use: str = "predict(NAME_x)") -> Row:
    """What it gives before the death and after it; then it is fitted anew."""
    name = made.partition("(")[0]
    return _sklearn(
        f"{name}, fitted",
        f"from sklearn.{module} import {name}\n{_DATA}"
        f"NAME = {made}.fit(NAME_x, NAME_y)\nNAME_was = NAME.{use}",
        f"assert np.array_equal(NAME.{use}, NAME_was)\n"
        f"assert NAME.fit(NAME_x, NAME_y) is NAME and np.allclose(NAME.{use}, NAME_was)",
    )


def _transforms(module: str, made: str) -> Row:
    return _fitted(module, made, "transform(NAME_x)")


ROWS = (
    _fitted("linear_model", "LogisticRegression(C=2.0)", "predict_proba(NAME_x)"),
    _fitted("linear_model", "Ridge(0.5)"),
    _fitted("linear_model", "Lasso(0.01)"),
    _fitted("linear_model", "ElasticNet(0.01)"),
    _fitted("linear_model", "BayesianRidge()", "predict(NAME_x, return_std=True)[1]"),
    _fitted("tree", "DecisionTreeClassifier(max_depth=3, random_state=0)", "predict_proba(NAME_x)"),
    _fitted("tree", "DecisionTreeRegressor(random_state=0)", "apply(NAME_x)"),
    _fitted("ensemble", "RandomForestRegressor(5, random_state=0)"),
    _fitted("ensemble", "ExtraTreesClassifier(5, random_state=0)", "predict_proba(NAME_x)"),
    _fitted("ensemble", "GradientBoostingClassifier(n_estimators=5, random_state=0)",
        "decision_function(NAME_x)"),
    _fitted("ensemble", "AdaBoostClassifier(n_estimators=3, random_state=0)"),
    _fitted("ensemble", "BaggingClassifier(n_estimators=3, random_state=0)"),
    _fitted("ensemble", "IsolationForest(n_estimators=5, random_state=0)",
        "score_samples(NAME_x)"),
    _fitted("svm", "SVR()"),
    _fitted("svm", "LinearSVC(random_state=0)", "decision_function(NAME_x)"),
    _fitted("neighbors", "KNeighborsRegressor(3)"),
    _fitted("neighbors", "NearestNeighbors(n_neighbors=2)", "kneighbors(NAME_x)[0]"),
    _fitted("naive_bayes", "GaussianNB()", "predict_proba(NAME_x)"),
    _fitted("neural_network", "MLPClassifier((4,), max_iter=400, random_state=0)",
        "predict_proba(NAME_x)"),
    _fitted("discriminant_analysis", "LinearDiscriminantAnalysis()", "predict_proba(NAME_x)"),
    _fitted("cluster", "DBSCAN(eps=0.9)", "labels_"),
    _fitted("cluster", "AgglomerativeClustering(3)", "labels_"),
    _fitted("mixture", "GaussianMixture(2, random_state=0)", "predict_proba(NAME_x)"),
    _fitted("dummy", "DummyClassifier(strategy='prior')"),
    _fitted("calibration", "CalibratedClassifierCV(cv=2)", "predict_proba(NAME_x)"),
    _transforms("preprocessing", "StandardScaler()"),
    _transforms("preprocessing", "MinMaxScaler()"),
    _transforms("preprocessing", "RobustScaler()"),
    _transforms("preprocessing", "PolynomialFeatures(2)"),
    _transforms("preprocessing", "QuantileTransformer(n_quantiles=10, random_state=0)"),
    _transforms("preprocessing", "KBinsDiscretizer(3, encode='ordinal')"),
    _transforms("preprocessing", "PowerTransformer()"),
    _transforms("impute", "SimpleImputer(strategy='median')"),
    _transforms("impute", "KNNImputer(n_neighbors=2)"),
    _transforms("feature_selection", "SelectKBest(k=2)"),
    _transforms("decomposition", "TruncatedSVD(2, random_state=0)"),
    _transforms("decomposition", "FastICA(2, random_state=0)"),
    _sklearn("OneHotEncoder and OrdinalEncoder",
        "from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder\n"
        "NAME_c = [['a'], ['b'], ['a']]\nNAME = OneHotEncoder(handle_unknown='ignore').fit(NAME_c)\n"
        "NAME_o = OrdinalEncoder().fit(NAME_c)",
        "assert NAME.transform([['b'], ['z']]).toarray().tolist() == [[0, 1], [0, 0]]\n"
        "assert NAME_o.inverse_transform([[1]])[0, 0] == 'b'"),
    _sklearn("LabelEncoder and LabelBinarizer",
        "from sklearn.preprocessing import LabelBinarizer, LabelEncoder\n"
        "NAME, NAME_b = LabelEncoder().fit(['x', 'y']), LabelBinarizer().fit(['x', 'y', 'z'])",
        "assert NAME.transform(['y'])[0] == 1 and list(NAME.classes_) == ['x', 'y']\n"
        "assert NAME_b.transform(['z']).tolist() == [[0, 0, 1]]"),
    _sklearn("CountVectorizer and HashingVectorizer",
        "from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer\n"
        "NAME = CountVectorizer(ngram_range=(1, 2)).fit(['a cat', 'the cat sat'])\n"
        "NAME_h = HashingVectorizer(n_features=8)",
        "assert NAME.transform(['cat sat'])[0, NAME.vocabulary_['cat sat']] == 1\n"
        "assert NAME_h.transform(['cat']).shape == (1, 8)"),
    _sklearn("KFold, StratifiedKFold and TimeSeriesSplit",
        "from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit\n"
        "NAME = [KFold(2, shuffle=True, random_state=3), StratifiedKFold(2), TimeSeriesSplit(2)]\n"
        "NAME_was = [s[1].tolist() for s in NAME[0].split(range(6))]",
        "assert [s[1].tolist() for s in NAME[0].split(range(6))] == NAME_was\n"
        "assert NAME[1].get_n_splits() == 2 and len(list(NAME[2].split(range(6)))) == 2"),
    _sklearn("splits not begun", "from sklearn.model_selection import KFold\n"
        "NAME = KFold(2).split(np.arange(4))",
        "assert [s[1].tolist() for s in NAME] == [[0, 1], [2, 3]]"),
    _sklearn("VotingClassifier and StackingClassifier",
        "from sklearn.ensemble import StackingClassifier, VotingClassifier\n"
        "from sklearn.linear_model import LogisticRegression\n"
        f"from sklearn.naive_bayes import GaussianNB\n{_DATA}"
        "NAME_p = [('l', LogisticRegression()), ('g', GaussianNB())]\n"
        "NAME = VotingClassifier(NAME_p, voting='soft').fit(NAME_x, NAME_y)\n"
        "NAME_s = StackingClassifier(NAME_p, cv=2).fit(NAME_x, NAME_y)\n"
        "NAME_was = NAME.predict_proba(NAME_x)",
        "assert np.array_equal(NAME.predict_proba(NAME_x), NAME_was)\n"
        "assert NAME_s.score(NAME_x, NAME_y) > 0.8 and 'g' in NAME.named_estimators_"),
    _sklearn("RandomizedSearchCV over distributions",
        "import scipy.stats\nfrom sklearn.linear_model import Ridge\n"
        f"from sklearn.model_selection import RandomizedSearchCV\n{_DATA}"
        "NAME = RandomizedSearchCV(Ridge(), {'alpha': scipy.stats.loguniform(0.1, 10)}, n_iter=3,"
        " cv=2, random_state=0).fit(NAME_x, NAME_y)",
        "assert NAME.predict(NAME_x).shape == (40,) and 0.1 <= NAME.best_params_['alpha'] <= 10\n"
        "assert NAME.fit(NAME_x, NAME_y).best_index_ in range(3)", "scipy"),
    _sklearn("kernels of a Gaussian process",
        "from sklearn.gaussian_process.kernels import RBF, WhiteKernel\n"
        "NAME = 2.0 * RBF(0.5) + WhiteKernel(0.1)",
        "assert NAME(np.zeros((1, 1)))[0, 0] == 2.1 and (NAME + NAME).k1 == NAME"),
)  # fmt: skip
