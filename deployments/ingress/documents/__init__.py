"""What the service says of itself: an OpenAPI document and a page, from the same operations."""
