"""Every test here looks at a page in a real browser."""

from browser_fixtures import accessible, chromium, drawn, open_page

__all__ = ["accessible", "chromium", "drawn", "open_page"]
