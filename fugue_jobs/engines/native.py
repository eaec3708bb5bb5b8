"""Fugue's native engine on a database that is kept: opening DuckDB takes 16 ms of CPU, half of a small batch's script."""

from __future__ import annotations

import os
from functools import cache

import duckdb
from fugue.collections.sql import StructuredRawSQL
from fugue.dataframe.dataframe import DataFrame
from fugue.dataframe.dataframes import DataFrames
from fugue.execution.execution_engine import SQLEngine
from fugue.execution.native_execution_engine import DefaultSQLEngine, NativeExecutionEngine
from fugue_duckdb.dataframe import DuckDataFrame


class KeptNativeEngine(NativeExecutionEngine):
    """NativeExecutionEngine, whose SELECT opens a database each time."""

    def create_default_sql_engine(self) -> SQLEngine:
        return _KeptSQL(self)


class _KeptSQL(DefaultSQLEngine):
    def select(self, dfs: DataFrames, statement: StructuredRawSQL) -> DataFrame:
        """Return the rows. The frames are seen by this statement only."""
        encoded, sql = self.encode(dfs, statement)
        with _database(os.getpid()).cursor() as connection:
            for name, frame in encoded.items():
                connection.register(name, frame.as_arrow())
            rows: DataFrame = DuckDataFrame(connection.sql(sql)).as_local_bounded()
            return rows


@cache
def _database(_process: int) -> duckdb.DuckDBPyConnection:
    """Return this process's database in memory. It has no threads: a fork would not have them. Two at a start do no harm."""
    return duckdb.connect(config={"threads": 1})
