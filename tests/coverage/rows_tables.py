"""Rows of libraries for tables and databases."""

from __future__ import annotations

from library import Library

_pandas = Library("pandas", "import numpy as np, pandas as pd", needs=("pandas", "numpy"))
_polars = Library("polars", "import polars as pl")
_pyarrow = Library("pyarrow", "import pyarrow as pa")
_xarray = Library("xarray", "import numpy as np, xarray as xr")
_dask = Library("dask", "import numpy as np, dask")
_duckdb = Library("duckdb", "import duckdb")
_alchemy = Library("sqlalchemy", "import sqlalchemy as sa\nfrom sqlalchemy import orm")

_FRAME = "pd.DataFrame({'k': list('abab'), 'v': [1.0, 2, 3, 4]})"

_PANDAS = (
    _pandas("DataFrame", f"NAME = {_FRAME}\nNAME.attrs['unit'] = 'm'",
        "NAME.loc[4] = ['c', 5.0]\nassert NAME.v.sum() == 15 and NAME.attrs['unit'] == 'm'\n"
        "assert NAME.groupby('k').v.sum()['a'] == 4"),
    _pandas("Series", "NAME = pd.Series([1, 2], index=['x', 'y'], name='s')",
        "NAME['x'] = 9\nassert NAME.sum() == 11 and NAME.name == 's'"),
    _pandas("frame and a column of it",
        f"NAME = {_FRAME}\nNAME_v = NAME['v']",
        "NAME_v.iloc[0] = 100.0\nassert NAME.v[0] == 1.0 and NAME_v[0] == 100"),
    _pandas("frames that share an index",
        "NAME_i = pd.Index([10, 20], name='i')\n"
        "NAME, NAME_b = pd.DataFrame({'a': [1, 2]}, NAME_i), pd.DataFrame({'b': [3, 4]}, NAME_i)",
        "assert NAME.index is NAME_b.index is NAME_i and NAME.join(NAME_b).loc[20, 'b'] == 4"),
    _pandas("subclass of DataFrame from the notebook",
        """
        class NAME_F(pd.DataFrame):
            _metadata = ["unit"]
            @property
            def _constructor(self):
                return NAME_F
        NAME = NAME_F({"a": [1, 2]})
        NAME.unit = "m"
        """,
        "assert type(NAME.head(1)) is NAME_F and NAME.unit == 'm'"),
    _pandas("MultiIndex", "NAME = pd.MultiIndex.from_product([['a', 'b'], [1, 2]], names=['x', "
        "'y'])",
        "assert NAME.get_loc(('b', 1)) == 2 and NAME.names == ['x', 'y']"),
    _pandas("RangeIndex and DatetimeIndex with a frequency",
        "NAME = pd.date_range('2024-01-01', periods=3, freq='MS', tz='Europe/Berlin')\n"
        "NAME_r = pd.RangeIndex(0, 10, 2)",
        "assert NAME.freqstr == 'MS' and str(NAME.tz) == 'Europe/Berlin' and type(NAME_r) is "
        "pd.RangeIndex\n"
        "assert NAME.shift(1)[0] == NAME[1]"),
    _pandas("Categorical", "NAME = pd.Categorical(['lo', 'hi'], ['lo', 'hi'], ordered=True)",
        "assert NAME.max() == 'hi' and NAME.codes.tolist() == [0, 1]\nNAME[0] = 'hi'"),
    _pandas("Interval and IntervalIndex", "NAME = pd.cut(pd.Series([1, 5, 9]), 2)\n"
        "NAME_i = pd.Interval(0, 1, 'both')",
        "assert 1 in NAME_i and NAME.cat.categories.get_loc(2) == 0"),
    _pandas("Period and PeriodIndex",
        "NAME = pd.period_range('2024Q1', periods=3, freq='Q')\nNAME_p = pd.Period('2024-02')",
        "assert str(NAME_p + 1) == '2024-03' and NAME[1].quarter == 2"),
    _pandas("Timestamp, Timedelta, NaT and NA",
        "NAME = [pd.Timestamp('2024-03-31', tz='UTC'), pd.Timedelta('1h'), pd.NaT, pd.NA]",
        "assert NAME[2] is pd.NaT and NAME[3] is pd.NA\n"
        "assert (NAME[0] + NAME[1]).hour == 1"),
    _pandas("offsets", "NAME = pd.offsets.CustomBusinessDay(holidays=['2024-01-02'])",
        "assert pd.Timestamp('2024-01-01') + NAME == pd.Timestamp('2024-01-03')"),
    _pandas("nullable extension arrays",
        "NAME = pd.array([1, None, 3], 'Int64')\nNAME_b = pd.array([True, None], 'boolean')\n"
        "NAME_s = pd.array(['x', None], 'string')",
        "NAME[0] = 5\nassert NAME.sum() == 8 and NAME_b[1] is pd.NA and NAME_s.isna()[1]"),
    _pandas("Arrow-backed columns",
        "NAME = pd.DataFrame({'a': pd.array([1, None], 'int64[pyarrow]'),"
        " 's': pd.array(['x', 'y'], 'string[pyarrow]')})",
        "assert NAME.a.sum() == 1 and NAME.s.str.upper()[1] == 'Y'\nNAME.loc[1, 'a'] = 7",
        "pyarrow"),
    _pandas("sparse columns", "NAME = pd.DataFrame({'a': pd.arrays.SparseArray([0, 0, 5])})",
        "assert NAME.a.sparse.density == 1 / 3 and NAME.a.sum() == 5"),
    _pandas("extension array from the notebook",
        """
        from pandas.api.extensions import ExtensionDtype
        class NAME_Dtype(pd.api.extensions.PandasExtensionDtype if hasattr(
                pd.api.extensions, "PandasExtensionDtype") else ExtensionDtype):
            name, type, kind, na_value = "celsius", float, "f", np.nan
            @classmethod
            def construct_array_type(cls):
                return NAME_Array
        class NAME_Array(pd.api.extensions.ExtensionArray):
            def __init__(self, values):
                self.values = np.asarray(values, float)
            @classmethod
            def _from_sequence(cls, scalars, *, dtype=None, copy=False):
                return cls(scalars)
            def __len__(self):
                return len(self.values)
            def __getitem__(self, item):
                got = self.values[item]
                return got if np.ndim(got) == 0 else NAME_Array(got)
            def isna(self):
                return np.isnan(self.values)
            def copy(self):
                return NAME_Array(self.values.copy())
            def take(self, indices, *, allow_fill=False, fill_value=None):
                return NAME_Array(self.values.take(indices))
            @property
            def dtype(self):
                return NAME_Dtype()
        NAME = pd.Series(NAME_Array([1.0, 2.0]))
        """,
        "assert NAME.dtype.name == 'celsius' and NAME[1] == 2.0 and type(NAME.array) is "
        "NAME_Array"),
    _pandas("Styler",
        f"NAME = {_FRAME}.style.highlight_max('v', color='red').format({{'v': lambda v: "
        f"f'<{{v}}>'}})",
        "assert 'red' in NAME.to_html() and '&lt;4.0&gt;' in NAME.to_html(escape='html') or"
        " '<4.0>' in NAME.to_html()", "jinja2"),
    _pandas("DataFrameGroupBy", f"NAME_df = {_FRAME}\nNAME = NAME_df.groupby('k')",
        "assert NAME.v.sum().to_dict() == {'a': 4, 'b': 6} and len(NAME.get_group('a')) == 2\n"
        "assert NAME.agg(lambda g: g.max())['v']['b'] == 4"),
    _pandas("SeriesGroupBy", f"NAME = {_FRAME}.groupby('k')['v']",
        "assert NAME.transform('mean').tolist() == [2, 3, 2, 3]"),
    _pandas("Rolling and Expanding",
        "NAME_s = pd.Series([1.0, 2, 3])\nNAME, NAME_e = NAME_s.rolling(2), NAME_s.expanding()",
        "assert NAME.sum()[2] == 5 and NAME_e.max().tolist() == [1, 2, 3]"),
    _pandas("ExponentialMovingWindow", "NAME = pd.Series([1.0, 2, 3]).ewm(halflife=1)",
        "assert abs(NAME.mean()[2] - 2.428571) < 1e-5"),
    _pandas("Resampler",
        "NAME = pd.Series(range(4), pd.date_range('2024', periods=4, freq='12h')).resample('D')",
        "assert NAME.sum().tolist() == [1, 5]"),
    _pandas("Grouper and NamedAgg", "NAME = pd.Grouper(key='k', sort=False)\n"
        "NAME_a = pd.NamedAgg('v', 'sum')",
        f"assert {_FRAME}.groupby(NAME).agg(t=NAME_a).t.tolist() == [4, 6]"),
    _pandas("accessors", "NAME = pd.Series(['a', 'bc']).str\n"
        "NAME_dt = pd.Series(pd.date_range('2024', periods=2)).dt",
        "assert NAME.len().tolist() == [1, 2] and NAME_dt.year[1] == 2024"),
    _pandas("indexers of a frame", f"NAME_df = {_FRAME}\nNAME = NAME_df.loc\nNAME_at = NAME_df.at",
        "NAME[0, 'v'] = 50.0\nassert NAME_df.v[0] == 50 and NAME_at[0, 'v'] == 50"),
    _pandas("rows being iterated", f"NAME = {_FRAME}.itertuples()\nnext(NAME)", "",
        expect="named", why_not="running code"),
    _pandas("row of itertuples", f"NAME = next({_FRAME}.itertuples(name='Row'))",
        "assert NAME.v == 1 and NAME.k == 'a'"),
    _pandas("reader of a CSV file in chunks",
        """
        import tempfile, os
        NAME_path = os.path.join(tempfile.mkdtemp(), "a.csv")
        pd.DataFrame({"a": range(10)}).to_csv(NAME_path, index=False)
        NAME = pd.read_csv(NAME_path, chunksize=4)
        next(NAME)
        """,
        "assert [list(part.a) for part in NAME] == [[4, 5, 6, 7], [8, 9]]"),
    _pandas("option_context", "NAME = pd.option_context('display.max_rows', 7)",
        "with NAME:\n    assert pd.get_option('display.max_rows') == 7"),
    _pandas("Flags and a frame without duplicates",
        f"NAME = {_FRAME}.set_flags(allows_duplicate_labels=False)",
        "assert NAME.flags.allows_duplicate_labels is False"),
)  # fmt: skip

_SALES = "pl.DataFrame({'k': ['a', 'b', 'a'], 'v': [1, 2, None]})"
_POLARS = (
    _polars("DataFrame", f"NAME = {_SALES}",
        "assert NAME.filter(pl.col('k') == 'a')['v'].to_list() == [1, None]\n"
        "NAME[0, 'v'] = 7\nassert NAME['v'].sum() == 9"),
    _polars("Series", "NAME = pl.Series('s', [[1, 2], [3]])",
        "assert NAME.list.sum().to_list() == [3, 3] and NAME.name == 's'"),
    _polars("Categorical and Enum columns",
        "NAME = pl.DataFrame({'c': pl.Series(['x', 'y', 'x'], dtype=pl.Categorical),"
        " 'e': pl.Series(['lo', 'hi', 'lo'], dtype=pl.Enum(['lo', 'hi']))})",
        "assert NAME['c'].n_unique() == 2 and NAME.sort('e')['e'].to_list() == ['lo', 'lo', 'hi']"),
    _polars("column of objects", "NAME = pl.Series('o', [{1}, None], dtype=pl.Object)",
        "assert NAME[0] == {1} and NAME[1] is None"),
    _polars("LazyFrame", f"NAME = {_SALES}.lazy().group_by('k').agg(pl.col('v').sum()).sort('k')",
        "assert NAME.collect()['v'].to_list() == [1, 2]\n"
        "assert NAME.head(1).collect().height == 1"),
    _polars("LazyFrame that scans a file",
        """
        import tempfile, os
        NAME_path = os.path.join(tempfile.mkdtemp(), "a.csv")
        pl.DataFrame({"a": [1, 2, 3]}).write_csv(NAME_path)
        NAME = pl.scan_csv(NAME_path).filter(pl.col("a") > 1)
        """,
        "assert NAME.collect()['a'].to_list() == [2, 3]"),
    _polars("LazyFrame with a function of the notebook",
        f"NAME = {_SALES}.lazy().map_batches(lambda df: df.with_columns(v=pl.col('v') * 3))",
        "assert NAME.collect()['v'].to_list() == [3, 6, None]"),
    _polars("Expr", "NAME = (pl.col('v') * 2).alias('twice')",
        f"assert {_SALES}.select(NAME)['twice'].to_list() == [2, 4, None]"),
    _polars("Expr with a function of the notebook",
        "NAME = pl.col('v').map_elements(lambda v: v + 100, return_dtype=pl.Int64)",
        f"assert {_SALES}.select(NAME)['v'].to_list() == [101, 102, None]"),
    _polars("GroupBy", f"NAME = {_SALES}.group_by('k', maintain_order=True)",
        "assert NAME.agg(pl.len())['len'].to_list() == [2, 1]"),
    _polars("Schema and data types", "NAME = pl.Schema({'a': pl.List(pl.Datetime('ms', 'UTC'))})\n"
        "NAME_t = pl.Decimal(10, 2)",
        "assert NAME['a'].inner.time_zone == 'UTC' and NAME_t.scale == 2"),
    _polars("SQLContext", f"NAME = pl.SQLContext(t={_SALES})",
        "assert NAME.execute('select sum(v) s from t').collect()['s'][0] == 3"),
    _polars("Config", "NAME = pl.Config(tbl_rows=3)\npl.Config.restore_defaults()",
        "with NAME:\n    pass"),
)  # fmt: skip

_TABLE = "pa.table({'a': [1, 2, 3], 's': ['x', None, 'z']})"
_PYARROW = (
    _pyarrow("Table", f"NAME = {_TABLE}",
        "import pyarrow.compute as pc\nassert NAME.filter(pc.field('a') > 1).num_rows == 2"),
    _pyarrow("Array, and a slice of it", "NAME = pa.array(range(1000))\nNAME_s = NAME[10:12]",
        "assert NAME_s.to_pylist() == [10, 11] and len(NAME) == 1000"),
    _pyarrow("DictionaryArray and ListArray",
        "NAME = pa.array(['x', 'y', 'x']).dictionary_encode()\nNAME_l = pa.array([[1], [2, 3]])",
        "assert NAME.indices.to_pylist() == [0, 1, 0] and NAME_l.flatten().to_pylist() == [1, "
        "2, 3]"),
    _pyarrow("RecordBatch", f"NAME = {_TABLE}.to_batches()[0]",
        "assert NAME.column('s').null_count == 1 and NAME.num_rows == 3"),
    _pyarrow("Schema with metadata",
        "NAME = pa.schema([pa.field('a', pa.int8(), metadata={'u': 'm'})], metadata={'k': 'v'})",
        "assert NAME.metadata[b'k'] == b'v' and NAME.field('a').metadata[b'u'] == b'm'"),
    _pyarrow("Scalar and DataType", "NAME = pa.scalar(3, pa.decimal128(5, 2))\n"
        "NAME_t = pa.struct([('a', pa.list_(pa.timestamp('us', 'UTC')))])",
        "assert NAME.as_py() == 3 and NAME_t.field('a').type.value_type.tz == 'UTC'"),
    _pyarrow("Buffer and Tensor",
        "import numpy as np\nNAME = pa.py_buffer(b'hello')\n"
        "NAME_t = pa.Tensor.from_numpy(np.arange(4).reshape(2, 2))",
        "assert NAME.to_pybytes() == b'hello' and NAME_t.to_numpy()[1, 1] == 3", "numpy"),
    _pyarrow("ExtensionType from the notebook",
        """
        class NAME_T(pa.ExtensionType):
            def __init__(self):
                super().__init__(pa.int64(), "NAME.t")
            def __arrow_ext_serialize__(self):
                return b""
            @classmethod
            def __arrow_ext_deserialize__(cls, storage, data):
                return cls()
        NAME = NAME_T().wrap_array(pa.array([1, 2]))
        """,
        "assert isinstance(NAME.type, NAME_T) and NAME.storage.to_pylist() == [1, 2]"),
    _pyarrow("compute expression and options", "import pyarrow.compute as pc\n"
        "NAME = (pc.field('a') * 2 > 3) & pc.field('s').is_valid()\n"
        "NAME_o = pc.ScalarAggregateOptions(skip_nulls=False)",
        f"assert {_TABLE}.filter(NAME).num_rows == 1\n"
        "import pyarrow.compute as pc\n"
        "assert pc.sum(pa.array([1, None]), options=NAME_o).as_py() is None"),
    _pyarrow("dataset of files",
        """
        import tempfile, pyarrow.dataset as ds, pyarrow.parquet as pq
        NAME_dir = tempfile.mkdtemp()
        pq.write_table(pa.table({"a": [1, 2, 3]}), NAME_dir + "/x.parquet")
        NAME = ds.dataset(NAME_dir)
        """,
        "import pyarrow.compute as pc\n"
        "assert NAME.to_table(filter=pc.field('a') > 1).num_rows == 2\n"        ),
    _pyarrow("Scanner", f"import pyarrow.dataset as ds\nNAME = ds.dataset({_TABLE}).scanner()", "",
        expect="named", why_not="read"),
    _pyarrow("ParquetFile",
        """
        import tempfile, pyarrow.parquet as pq
        NAME_path = tempfile.mkdtemp() + "/x.parquet"
        pq.write_table(pa.table({"a": [1, 2, 3]}), NAME_path)
        NAME = pq.ParquetFile(NAME_path)
        """,
        "assert NAME.num_row_groups == 1 and NAME.read_row_group(0)['a'].to_pylist() == [1, 2, 3]"),
    _pyarrow("table over a memory-mapped file",
        """
        import tempfile
        NAME_path = tempfile.mkdtemp() + "/x.arrow"
        NAME_schema = pa.schema([("a", "int64")])
        with pa.OSFile(NAME_path, "wb") as out, pa.ipc.new_file(out, NAME_schema) as w:
            w.write_table(pa.table({"a": range(50_000)}))
        NAME = pa.ipc.open_file(pa.memory_map(NAME_path)).read_all()
        """,
        "assert NAME['a'][49_999].as_py() == 49_999"),
    _pyarrow("MemoryMappedFile and OSFile",
        """
        import tempfile
        NAME_path = tempfile.mkdtemp() + "/x.bin"
        open(NAME_path, "wb").write(b"0123456789")
        NAME = pa.memory_map(NAME_path)
        NAME.read(4)
        """,
        "assert NAME.read(2) == b'45' and NAME.size() == 10"),
    _pyarrow("RecordBatchReader", f"NAME = {_TABLE}.to_reader()", "",
        expect="named", why_not="read"),
    _pyarrow("BufferOutputStream", "NAME = pa.BufferOutputStream()\nNAME.write(b'x')",
        "NAME.write(b'yz')\nassert NAME.getvalue().to_pybytes() == b'xyz'"),
    _pyarrow("LocalFileSystem", "from pyarrow import fs\nNAME = fs.SubTreeFileSystem('/tmp',"
        " fs.LocalFileSystem())", "assert NAME.get_file_info('').is_file is False"),
)  # fmt: skip

_XARRAY = (
    _xarray("DataArray", "NAME = xr.DataArray(np.arange(6.).reshape(2, 3), dims=('x', 'y'),"
        " coords={'x': [10, 20]}, attrs={'u': 'm'})",
        "NAME.loc[20] = 0.0\nassert NAME.sum() == 3 and NAME.attrs['u'] == 'm'"),
    _xarray("Dataset, and a variable of it",
        "NAME = xr.Dataset({'t': ('x', [1., 2])}, {'x': [0, 1]})\nNAME_t = NAME['t']",
        "NAME_t.values[0] = 50\nassert NAME.t[0] == 50 and NAME.sel(x=1).t == 2"),
    _xarray("Dataset opened lazily",
        """
        import tempfile
        NAME_path = tempfile.mkdtemp() + "/a.nc"
        xr.Dataset({"t": ("x", np.arange(4.0))}).to_netcdf(NAME_path, engine="scipy")
        NAME = xr.open_dataset(NAME_path, engine="scipy")
        """,
        "assert NAME.t.isel(x=3) == 3 and NAME.t.mean() == 1.5", "scipy"),
    _xarray("DatasetGroupBy and rolling",
        "NAME_a = xr.DataArray([1., 2, 3, 4], dims='x', coords={'k': ('x', list('abab'))})\n"
        "NAME, NAME_r = NAME_a.groupby('k'), NAME_a.rolling(x=2)",
        "assert NAME.sum().values.tolist() == [4, 6] and NAME_r.sum().values[1] == 3"),
    _xarray("DataTree", "NAME = xr.DataTree.from_dict({'/': xr.Dataset({'a': 1}),"
        " '/c': xr.Dataset({'b': 2})})", "assert NAME['c/b'] == 2 and NAME.children['c'].parent "
        "is NAME"),
)  # fmt: skip

_DASK = (
    _dask("Array", "import dask.array as da\nNAME = da.ones((100, 100), chunks=50) * 2",
        "assert NAME.sum().compute() == 20000"),
    _dask("DataFrame", "import dask.dataframe as dd, pandas as pd\n"
        "NAME = dd.from_pandas(pd.DataFrame({'k': [1, 2, 1], 'v': [1, 2, 3]}), npartitions=2)\n"
        "NAME_g = NAME.groupby('k').v.sum()",
        "assert NAME_g.compute()[1] == 4 and NAME.v.map_partitions(lambda s: s * "
        "2).sum().compute() == 12",
        "pandas"),
    _dask("Bag", "import dask.bag as db\nNAME = db.from_sequence([1, 2, 3]).map(lambda x: x + 1)",
        "assert NAME.compute(scheduler='sync') == [2, 3, 4]"),
    _dask("Delayed", "@dask.delayed\ndef NAME_f(x):\n    return x * 2\nNAME = NAME_f(NAME_f(3))",
        "assert NAME.compute() == 12 and NAME_f(1).compute() == 2"),
    _dask("array over an array of the notebook",
        "import dask.array as da\nNAME_x = np.arange(8)\nNAME = da.from_array(NAME_x, chunks=4)",
        "assert NAME.sum().compute() == 28"),
)  # fmt: skip

_DUCKDB = (
    _duckdb("connection in memory",
        """
        NAME = duckdb.connect()
        NAME.execute("create table t (i integer primary key, s varchar)")
        NAME.execute("insert into t values (1, 'a'), (2, null)")
        NAME.execute("create view w as select count(*) n from t")
        NAME.execute("create sequence q start 5")
        """,
        """
        assert NAME.execute("select n from w").fetchone() == (2,)
        NAME.execute("insert into t values (3, 'c')")
        assert NAME.execute("select n from w").fetchone() == (3,)
        assert NAME.execute("select nextval('q')").fetchone() == (5,)
        try:
            NAME.execute("insert into t values (3, 'd')")
        except duckdb.ConstraintException:
            pass
        else:
            assert False
        """),
    _duckdb("connection to a file",
        """
        import tempfile
        NAME_path = tempfile.mkdtemp() + "/a.duckdb"
        NAME = duckdb.connect(NAME_path)
        NAME.execute("create table t as select 42 i")
        """,
        "assert NAME.execute('select i from t').fetchone() == (42,)\n"
        "NAME.execute('insert into t values (1)')"),
    _duckdb("relation", "NAME_c = duckdb.connect()\n"
        "NAME_c.execute('create table t as select 7 a')\n"
        "NAME = NAME_c.sql('select a from t')",
        "NAME_c.execute('insert into t values (9)')\n"
        "assert NAME.order('a desc').fetchall() == [(9,), (7,)] and NAME.columns == ['a']"),
    _duckdb("expression and type", "NAME = duckdb.sqltype('INTEGER[]')\n"
        "NAME_e = (duckdb.ColumnExpression('a') + 1).alias('b')",
        "assert str(NAME) == 'INTEGER[]' and NAME.children[0][1] == 'INTEGER'\n"
        "assert duckdb.sql('select 4 a').select(NAME_e).fetchall() == [(5,)]"),
)  # fmt: skip

_MODEL = """
        class NAME_Base(orm.DeclarativeBase):
            pass
        class NAME_User(NAME_Base):
            __tablename__ = "NAME_user"
            id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
            name: orm.Mapped[str]
"""
_ALCHEMY = (
    _alchemy("Engine of sqlite in memory",
        """
        NAME = sa.create_engine("sqlite://")
        with NAME.begin() as c:
            c.exec_driver_sql("create table t (i integer)")
            c.exec_driver_sql("insert into t values (7)")
        """,
        "with NAME.connect() as c:\n    assert c.exec_driver_sql('select i from t').scalar() == 7"),
    _alchemy("Engine of sqlite on a file",
        """
        import tempfile
        NAME = sa.create_engine(f"sqlite:///{tempfile.mkdtemp()}/a.db", echo=False)
        with NAME.begin() as c:
            c.exec_driver_sql("create table t (i integer)")
            c.exec_driver_sql("insert into t values (7)")
        """,
        "with NAME.connect() as c:\n    assert c.exec_driver_sql('select i from t').scalar() == 7"),
    _alchemy("Connection", "NAME = sa.create_engine('sqlite://').connect()", "",
        expect="named", why_not="connection"),
    _alchemy("MetaData and Table",
        """
        NAME = sa.MetaData()
        NAME_t = sa.Table("t", NAME, sa.Column("i", sa.Integer, primary_key=True),
                          sa.Column("s", sa.String(20), default="x"))
        """,
        """
        assert NAME.tables["t"] is NAME_t
        e = sa.create_engine("sqlite://")
        NAME.create_all(e)
        with e.begin() as c:
            c.execute(NAME_t.insert())
            assert c.execute(sa.select(NAME_t)).one() == (1, "x")
        """),
    _alchemy("Select and other clauses",
        "NAME_t = sa.table('t', sa.column('i'))\n"
        "NAME = sa.select(NAME_t.c.i).where(NAME_t.c.i > sa.bindparam('n'))\n"
        "NAME_text = sa.text('select :x')",
        "assert 'WHERE t.i >' in str(NAME.limit(1))\n"
        "with sa.create_engine('sqlite://').connect() as c:\n"
        "    assert c.execute(NAME_text, {'x': 3}).scalar() == 3"),
    _alchemy("declared ORM classes", _MODEL + "        NAME = NAME_User",
        """
        e = sa.create_engine("sqlite://")
        NAME_Base.metadata.create_all(e)
        with orm.Session(e) as s:
            s.add(NAME(name="ann"))
            s.commit()
            assert s.scalars(sa.select(NAME).where(NAME.name == "ann")).one().id == 1
        """),
    _alchemy("ORM instance", _MODEL.replace("NAME_User", "NAME_V").replace("_user", "_v")
        + "        NAME = NAME_V(name='bob')",
        """
        assert NAME.name == "bob" and type(NAME) is NAME_V
        e = sa.create_engine("sqlite://")
        NAME_Base.metadata.create_all(e)
        with orm.Session(e, expire_on_commit=False) as s:
            s.add(NAME)
            s.commit()
        assert NAME.id == 1
        """),
    _alchemy("Session and sessionmaker", "NAME_e = sa.create_engine('sqlite://')\n"
        "NAME = orm.Session(NAME_e)\nNAME_make = orm.sessionmaker(NAME_e)",
        "assert NAME.execute(sa.text('select 5')).scalar() == 5\n"
        "with NAME_make() as s:\n    assert s.get_bind() is NAME_e"),
    _alchemy("URL and Row", "NAME = sa.make_url('postgresql://u:p@h/d')\n"
        "with sa.create_engine('sqlite://').connect() as c:\n"
        "    NAME_row = c.execute(sa.text('select 1 a, 2 b')).one()",
        "assert NAME.password == 'p' and NAME_row.b == 2 and tuple(NAME_row) == (1, 2)"),
)  # fmt: skip

ROWS = (*_PANDAS, *_POLARS, *_PYARROW, *_XARRAY, *_DASK, *_DUCKDB, *_ALCHEMY)
