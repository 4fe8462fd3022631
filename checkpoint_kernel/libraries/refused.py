"""Types of libraries that are not saved, because what they are is in the process that died."""

from __future__ import annotations

from checkpoint_kernel.refusals import Refusal, refuse

_FILE = Refusal("an open file ends with its process", "open it again")
_CONNECTION = Refusal("a database connection ends with its process", "connect again")
_COMPILED = Refusal("its library does not give back what it was compiled from", "compile it again")
_TRACED = Refusal("jax cannot save what it has traced or compiled", "trace it again")

for _module, _name, _refusal in (
    ("numpy", "nditer", Refusal("numpy does not tell its position")),
    ("scipy.sparse.linalg", "SuperLU", Refusal("scipy does not give back its factorization",
                                               "factorize again")),
    ("pandas.io.pytables", "HDFStore", _FILE),
    ("pandas.io.excel._base", "ExcelWriter", _FILE),
    ("pandas.io.excel._base", "ExcelFile", _FILE),
    ("pyarrow.lib", "RecordBatchReader", Refusal("pyarrow does not tell how far it has read")),
    ("pyarrow._dataset", "Scanner", Refusal("it can be read only once", "make it again")),
    ("pyarrow._parquet", "ParquetReader", _FILE),
    ("pyarrow.lib", "NativeFile", _FILE),
    ("_duckdb", "DuckDBPyRelation", Refusal("it belongs to a connection", "query again")),
    ("duckdb.duckdb", "DuckDBPyRelation", Refusal("it belongs to a connection", "query again")),
    ("sqlalchemy.engine.base", "Connection", _CONNECTION),
    ("sqlalchemy.engine.result", "Result", _CONNECTION),
    ("torch.autograd.graph", "Node",
     Refusal("the graph of a computation is not saved", "compute again")),
    ("torch.utils.data.dataloader", "_MultiProcessingDataLoaderIter",
     Refusal("its worker processes end with it", "iter() of its loader begins anew")),
    ("torch.utils.tensorboard.writer", "SummaryWriter", _FILE),
    ("jax._src.core", "Jaxpr", _TRACED),
    ("jax._src.core", "ClosedJaxpr", _TRACED),
    ("jax._src.stages", "Stage", _TRACED),
    ("lxml.etree", "_FeedParser", Refusal("lxml does not tell the options of a parser")),
    ("lxml.etree", "XSLT", _COMPILED),
    ("lxml.etree", "_Validator", Refusal("lxml does not give back the schema it was made of")),
    ("lxml.etree", "_XPathEvaluatorBase", _COMPILED),
):  # fmt: skip
    refuse(_module, _name, _refusal)
