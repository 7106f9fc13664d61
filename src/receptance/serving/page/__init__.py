"""The chat page: files that a browser runs as they are, and the routes that give them."""

from receptance.serving.page.static_files import CONTENT_SECURITY_POLICY, page_routes

__all__ = ["CONTENT_SECURITY_POLICY", "page_routes"]
