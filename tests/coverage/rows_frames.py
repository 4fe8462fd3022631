"""More rows of pandas, polars and pyarrow: what analyses keep in their variables."""

from __future__ import annotations

from library import Library

_pandas = Library("pandas", "import numpy as np, pandas as pd", needs=("pandas", "numpy"))
_polars = Library("polars", "import polars as pl")
_pyarrow = Library("pyarrow", "import pyarrow as pa")

_FRAME = "pd.DataFrame({'k': list('abab'), 'v': [1.0, 2, 3, 4]})"

_PANDAS = (
    _pandas("frame without rows, and without columns",
        "NAME = pd.DataFrame(columns=['a', 'b'])\nNAME_r = pd.DataFrame(index=range(2))",
        "NAME.loc[0] = [1, 2]\nassert NAME.shape == (1, 2) and NAME_r.shape == (2, 0)"),
    _pandas("frame with columns at two levels",
        "NAME = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_product([['a'], ['x', 'y']]))",
        "assert NAME['a', 'y'][0] == 2 and NAME.stack(level=0).shape == (1, 2)"),
    _pandas("frame with the same column twice", "NAME = pd.DataFrame([[1, 2]], columns=['a', 'a'])",
        "assert NAME['a'].shape == (1, 2) and not NAME.columns.is_unique"),
    _pandas("column of lists and dicts", "NAME_l = [1]\nNAME = pd.DataFrame({'o': [NAME_l, {'x': 2}]})",
        "assert NAME.o[0] is NAME_l and NAME.o.str['x'][1] == 2\nassert NAME.explode('o').o[0] == 1"),
    _pandas("column of times with a zone",
        "NAME = pd.DataFrame({'t': pd.date_range('2024-03-30', periods=3, tz='Europe/Paris')})",
        "assert NAME.t.dt.tz_convert('UTC')[2].hour == 22 and str(NAME.t.dt.tz) == 'Europe/Paris'\n"
        "assert NAME.set_index('t').loc['2024-03'].shape == (2, 0)"),
    _pandas("column of time differences", "NAME = pd.Series(pd.to_timedelta(['1h', '2D', None]))",
        "assert NAME.dt.days[1] == 2 and NAME.isna()[2] and NAME.sum() == pd.Timedelta('49h')"),
    _pandas("column of an ordered Categorical",
        "NAME = pd.DataFrame({'c': pd.Categorical(['lo', 'hi'], ['lo', 'hi'], ordered=True)})",
        "assert NAME.c.max() == 'hi' and (NAME.c > 'lo').tolist() == [False, True]\n"
        "assert NAME.groupby('c', observed=False).size()['lo'] == 1"),
    _pandas("CategoricalDtype and DatetimeTZDtype",
        "NAME = [pd.CategoricalDtype(['a', 'b'], ordered=True), pd.DatetimeTZDtype('ns', 'UTC')]",
        "s = pd.Series(['b', 'a']).astype(NAME[0])\nassert s.min() == 'a' and s.dtype == NAME[0]\n"
        "assert pd.Series(pd.to_datetime(['2024'], utc=True)).astype(NAME[1]).dtype == NAME[1]"),
    _pandas("TimedeltaIndex and CategoricalIndex",
        "NAME = pd.timedelta_range('1h', periods=3, freq='h')\n"
        "NAME_c = pd.CategoricalIndex(['a', 'b', 'a'])",
        "assert (NAME + pd.Timedelta('1h'))[0].seconds == 7200 and NAME.freq == 'h'\n"
        "assert NAME_c.get_loc('b') == 1 and list(NAME_c.categories) == ['a', 'b']"),
    _pandas("series of Periods", "NAME = pd.Series(range(3), pd.period_range('2024-01', periods=3, freq='M'))",
        "assert NAME['2024-02'] == 1 and NAME.resample('Q').sum().iloc[0] == 3"),
    _pandas("pivot table and crosstab", f"NAME = {_FRAME}.pivot_table('v', 'k', aggfunc=['sum', 'max'])\n"
        f"NAME_c = pd.crosstab({_FRAME}.k, {_FRAME}.v > 2)",
        "assert NAME.loc['b', ('sum', 'v')] == 6 and NAME_c.loc['a', True] == 1"),
    _pandas("cut and its intervals", "NAME = pd.cut(pd.Series([1, 5, 9]), [0, 4, 10])",
        "assert NAME.cat.categories[0] == pd.Interval(0, 4) and NAME.value_counts()[pd.Interval(4, 10)] == 2"),
    _pandas("merged frame with an indicator",
        f"NAME = {_FRAME}.merge(pd.DataFrame({{'k': ['a'], 'w': [9]}}), how='left', indicator=True)",
        "assert (NAME._merge == 'both').sum() == 2 and NAME.w.isna().sum() == 2"),
    _pandas("groupby by several keys and by a function of the notebook",
        f"NAME_f = lambda i: i % 2\nNAME = {_FRAME}.groupby(['k', NAME_f])",
        "assert NAME.ngroups == 2 and NAME.v.sum()['a', 0] == 4\n"
        "assert NAME.get_group(('b', 1)).shape == (2, 2)"),
    _pandas("rolling window of times, and of a groupby",
        "NAME_s = pd.Series(range(4), pd.date_range('2024', periods=4))\nNAME = NAME_s.rolling('2D')\n"
        f"NAME_g = {_FRAME}.groupby('k').v.rolling(2)",
        "assert NAME.sum().tolist() == [0, 1, 3, 5] and NAME_g.sum()['a', 2] == 4"),
    _pandas("IndexSlice, NA and the sentinels", "NAME = [pd.IndexSlice, pd.NA, pd.NaT, np.nan]",
        "assert NAME[1] is pd.NA and NAME[2] is pd.NaT and NAME[0][1:2] == slice(1, 2)"),
    _pandas("DateOffset and holidays of a calendar",
        "from pandas.tseries.holiday import USFederalHolidayCalendar\n"
        "NAME = pd.DateOffset(months=1, day=15)\nNAME_h = USFederalHolidayCalendar()",
        "assert pd.Timestamp('2024-01-31') + NAME == pd.Timestamp('2024-02-15')\n"
        "assert pd.Timestamp('2024-07-04') in NAME_h.holidays('2024', '2025')"),
    _pandas("copy-on-write between a frame and its parts",
        f"NAME_f = {_FRAME}\nNAME = NAME_f[['v']]\nNAME_t = NAME_f.iloc[1:3]",
        "NAME.loc[0, 'v'] = 50\nNAME_t.loc[1, 'v'] = 60\n"
        "assert NAME_f.v.tolist() == [1, 2, 3, 4] and NAME.v[0] == 50 and NAME_t.v[1] == 60"),
    _pandas("frames in a dict of lists", f"NAME = {{'x': [{_FRAME}, None], 'y': {_FRAME}}}",
        "assert pd.concat([NAME['x'][0], NAME['y']]).v.sum() == 20"),
    _pandas("groups of a frame, before the first", f"NAME = iter({_FRAME}.groupby('k'))",
        "assert {k: len(part) for k, part in NAME} == {'a': 2, 'b': 2}"),
    _pandas("named aggregations and a function list",
        "NAME = {'total': ('v', 'sum'), 'top': pd.NamedAgg('v', lambda s: s.max())}",
        f"assert {_FRAME}.groupby('k').agg(**NAME).loc['b'].tolist() == [6, 4]"),
)  # fmt: skip

_POLARS = (
    _polars("nested columns: lists, structs, arrays",
        "NAME = pl.DataFrame({'l': [[1, 2], []], 's': [{'a': 1}, {'a': 2}]},"
        " schema_overrides={'l': pl.List(pl.Int8)})",
        "assert NAME['l'].list.sum().to_list() == [3, 0] and NAME.unnest('s')['a'].sum() == 3"),
    _polars("dates, times, durations and decimals", "import datetime, decimal\n"
        "NAME = pl.DataFrame({'d': [datetime.date(2024, 1, 2)], 't': [datetime.time(1, 2)],"
        " 'u': [datetime.timedelta(1)], 'x': [decimal.Decimal('1.50')]})",
        "assert NAME['d'].dt.year()[0] == 2024 and str(NAME['x'][0]) == '1.50'\n"
        "assert NAME.select(pl.col('u') * 2).item().days == 2"),
    _polars("when and then, over windows", "NAME = pl.when(pl.col('a') > 1).then(pl.col('a').sum().over('k'))",
        "f = pl.DataFrame({'a': [1, 2, 3], 'k': ['x', 'x', 'y']})\n"
        "assert f.select(NAME.alias('r'))['r'].to_list() == [None, 3, 3]"),
    _polars("rolling and dynamic groups", "NAME = pl.DataFrame({'i': [1, 2, 3], 'v': [1, 2, 3]})"
        ".rolling('i', period='2i')", "assert NAME.agg(pl.col('v').sum())['v'].to_list() == [1, 3, 5]"),
    _polars("selectors", "import polars.selectors as cs\nNAME = cs.numeric() - cs.by_name('b')",
        "assert pl.DataFrame({'a': [1], 'b': [2], 'c': ['x']}).select(NAME).columns == ['a']"),
)  # fmt: skip

_PYARROW = (
    _pyarrow("ChunkedArray", "NAME = pa.chunked_array([[1, 2], [3]])",
        "assert NAME.num_chunks == 2 and NAME.slice(1).to_pylist() == [2, 3]"),
    _pyarrow("StructArray, MapArray and UnionArray",
        "NAME = [pa.array([{'a': 1}]), pa.array([[('k', 1)]], pa.map_(pa.string(), pa.int64())),"
        " pa.UnionArray.from_dense(pa.array([0, 1], 'int8'), pa.array([0, 0], 'int32'),"
        " [pa.array([5]), pa.array(['x'])])]",
        "assert NAME[0].field('a')[0].as_py() == 1 and NAME[1].to_pylist() == [[('k', 1)]]\n"
        "assert NAME[2].to_pylist() == [5, 'x']"),
    _pyarrow("decimals, times and durations", "import decimal, datetime\n"
        "NAME = pa.table({'d': [decimal.Decimal('1.5')], 't': pa.array([datetime.datetime(2024, 1, 1)],"
        " pa.timestamp('ms', 'UTC'))})",
        "assert NAME['d'][0].as_py() == decimal.Decimal('1.5') and NAME.schema.field('t').type.tz == 'UTC'"),
    _pyarrow("Field and dictionary type", "NAME = pa.field('a', pa.dictionary('int8', 'string'), False,"
        " {'k': 'v'})", "assert not NAME.nullable and NAME.metadata == {b'k': b'v'}\n"
        "assert NAME.type.value_type == pa.string()"),
)  # fmt: skip

ROWS = (*_PANDAS, *_POLARS, *_PYARROW)
