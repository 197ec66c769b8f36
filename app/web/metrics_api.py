"""`GET /metrics`: the figures for Prometheus, for who has the right or the METRICS_TOKEN (app/web/access.py)."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CollectorRegistry

from app.metrics import CONTENT_TYPE, DatabaseFigures, Requests, exposition
from app.web.access import needs
from schemas.access import Right


def metrics_router(figures: DatabaseFigures, requests: Requests) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    asked = CollectorRegistry()
    asked.register(figures)

    @router.get("/metrics", dependencies=[Depends(needs(Right.METRICS))])
    def metrics() -> Response:
        return Response(exposition(asked, requests.registry), media_type=CONTENT_TYPE)

    return router
