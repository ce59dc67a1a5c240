"""The site is looked at in a real browser too."""

from browser_fixtures import accessible, chromium, open_page

__all__ = ["accessible", "chromium", "open_page"]
