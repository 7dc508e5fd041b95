"""PostgreSQL and Redis as the benchmark uses them."""

from __future__ import annotations

import time
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from redis import Redis as RedisClient
from tests.bench.lib.system import Store

_SHOWN = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers")


class Postgres:
    """A server, on which every measurement gets an empty database."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str) -> str:
        """The URL of a database of that server."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def create(self, database: str, template: str = "template1") -> None:
        """Make a database anew, as a copy of another."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            self._drop(connection, database)
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database), sql.Identifier(template))
            )

    def drop(self, *databases: str) -> None:
        """Remove databases, whoever is still connected."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            for database in databases:
                self._drop(connection, database)

    def vacuum(self, database: str) -> None:
        """What autovacuum does within the minute: without, a plan depends on when it last came by."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.add_notice_handler(lambda _notice: None)  # the catalogue's own tables aren't ours to vacuum
            connection.execute("VACUUM ANALYZE")

    def settings(self) -> dict[str, str]:
        """Those that durability and speed hang on."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", ([*_SHOWN],)
            )
            return dict(rows.fetchall())

    def commits_per_second(self, database: str, seconds: float = 1.0) -> float:
        """How many small transactions one connection commits here: the measure of this machine's disk."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute("CREATE TABLE bench_probe (number bigint)")
            begin, count = time.monotonic(), 0
            while time.monotonic() < begin + seconds:
                connection.execute("INSERT INTO bench_probe VALUES (%s)", (count,))
                count += 1
            return count / (time.monotonic() - begin)

    @staticmethod
    def _drop(connection: psycopg.Connection, database: str) -> None:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


class Redis:
    """A server, which every measurement finds empty."""

    def __init__(self, url: str) -> None:
        self._client = RedisClient.from_url(url, decode_responses=True)

    def prepare(self, store: Store) -> None:
        """Empty it, and have it write as that store says."""
        self._client.flushall()
        always = store is Store.REDIS_ALWAYS
        self._client.config_set("appendfsync", "always" if always else "everysec")
        self._client.config_set("appendonly", "yes" if always else "no")
        while self._client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.05)

    def version(self) -> str:
        """Of the server."""
        return str(self._client.info("server")["redis_version"])
