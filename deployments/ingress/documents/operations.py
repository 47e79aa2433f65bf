"""Every operation of the service, in the order in which the documents tell of them."""

from deployments.ingress.documents import automatic1111, jobs, openai, pictures, service
from deployments.ingress.documents.operation import Operation

OPERATIONS: tuple[Operation, ...] = (
    *openai.OPERATIONS,
    *jobs.OPERATIONS,
    *automatic1111.OPERATIONS,
    *pictures.OPERATIONS,
    *service.OPERATIONS,
)
