"""Shards of qdrant-edge, the server's own engine as a library, with the part of the client's interface that is used here.

Aliases and metadata, which a shard does not have, are kept beside the shards.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import qdrant_edge as edge
from qdrant_client import models


def condition(found: Any) -> Any:
    """A filter of the client as one of the engine."""
    if isinstance(found, models.Filter):
        return where(found)
    if isinstance(found, models.IsEmptyCondition):
        return edge.IsEmptyCondition(found.is_empty.key)
    if found.range is not None:
        return edge.FieldCondition(found.key, range=edge.RangeFloat(gte=found.range.gte))
    match found.match:
        case models.MatchAny(any=values):
            return edge.FieldCondition(found.key, match=edge.MatchAny(values))
        case models.MatchPrefix(prefix=prefix):
            return edge.FieldCondition(found.key, match=edge.MatchPrefix(prefix))
        case models.MatchValue(value=value):
            return edge.FieldCondition(found.key, match=edge.MatchValue(value))
    raise NotImplementedError(found)


def where(found: models.Filter | None) -> Any:
    if found is None:
        return None
    parts = {key: getattr(found, key) for key in ("must", "should") if getattr(found, key)}
    return edge.Filter(**{key: [condition(one) for one in part] for key, part in parts.items()})


def vector(given: Any) -> Any:
    return edge.SparseVector(given.indices, given.values) if isinstance(given, models.SparseVector) else given


class EdgeClient:
    """One process's collections below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: dict[str, Any] = {}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, str] = {}

    def _shard(self, name: str) -> Any:
        name = self.aliases.get(name, name)
        if name not in self.shards:
            raise ValueError(f"Collection {name} not found")
        return self.shards[name]

    def create_collection(self, name: str, *, vectors_config: Any, metadata: dict[str, Any], **_: Any) -> None:
        dense = vectors_config["dense"]
        kind = edge.VectorStorageDatatype.Float16 if dense.datatype == models.Datatype.FLOAT16 else None
        folder = self.folder / f"{name}-{len(self.metadata)}"
        folder.mkdir(parents=True)
        self.shards[name] = edge.EdgeShard.create(
            str(folder),
            edge.EdgeConfig(
                vectors={"dense": edge.EdgeVectorParams(dense.size, edge.Distance.Dot, datatype=kind)},
                sparse_vectors={"bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
            ),
        )
        self.metadata[name] = metadata

    def delete_collection(self, name: str) -> bool:
        found = self.shards.pop(name, None)
        if found is not None:
            found.close()
        return found is not None

    def update_collection(self, name: str, *, metadata: dict[str, Any]) -> None:
        self.metadata[name] |= metadata

    def get_collection(self, name: str) -> Any:
        self._shard(name)
        config = SimpleNamespace(metadata=self.metadata[self.aliases.get(name, name)], params=SimpleNamespace())
        return SimpleNamespace(config=config)

    def get_aliases(self) -> Any:
        return SimpleNamespace(
            aliases=[SimpleNamespace(alias_name=name, collection_name=target) for name, target in self.aliases.items()]
        )

    def update_collection_aliases(self, *, change_aliases_operations: list[Any]) -> None:
        for step in change_aliases_operations:
            if isinstance(step, models.DeleteAliasOperation):
                del self.aliases[step.delete_alias.alias_name]
            else:
                self.aliases[step.create_alias.alias_name] = step.create_alias.collection_name

    def create_payload_index(self, name: str, field: str, kind: Any) -> None:
        schema = edge.PayloadSchemaType.Integer if kind == "integer" else edge.PayloadSchemaType.Keyword
        self._shard(name).update(edge.UpdateOperation.create_field_index(field, schema))

    def upsert(self, name: str, *, points: list[Any], wait: bool) -> None:
        made = [edge.Point(one.id, {key: vector(value) for key, value in one.vector.items()}, one.payload) for one in points]
        self._shard(name).update(edge.UpdateOperation.upsert_points(made))

    def delete(self, name: str, *, points_selector: list[int], wait: bool) -> None:
        self._shard(name).update(edge.UpdateOperation.delete_points(points_selector))

    def count(self, name: str, *, count_filter: Any, exact: bool) -> Any:
        return SimpleNamespace(count=self._shard(name).count(edge.CountRequest(exact, where(count_filter))))

    def retrieve(self, name: str, *, ids: list[int], with_payload: bool) -> Any:
        return self._shard(name).retrieve(ids, with_payload, False)

    def scroll(self, name: str, *, limit: int, offset: Any = None, scroll_filter: Any = None, with_payload: Any = True) -> Any:
        return self._shard(name).scroll(
            edge.ScrollRequest(offset=offset, limit=limit, filter=where(scroll_filter), with_payload=with_payload)
        )

    def query_batch_points(self, name: str, *, requests: list[models.QueryRequest]) -> Any:
        shard = self._shard(name)
        asked = [
            edge.QueryRequest(
                limit=one.limit,
                query=edge.Query.Nearest(vector(one.query), one.using),
                filter=where(one.filter),
                with_payload=one.with_payload,
                params=edge.SearchParams(hnsw_ef=one.params.hnsw_ef) if one.params else None,
            )
            for one in requests
        ]
        return [SimpleNamespace(points=shard.query(one)) for one in asked]

    def facet(self, name: str, *, key: str, facet_filter: Any, limit: int, exact: bool) -> Any:
        return self._shard(name).facet(edge.FacetRequest(key, limit, exact, where(facet_filter)))
