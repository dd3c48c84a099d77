"""Just enough of a browser, without scripts, to sign in to a brain and read its pages."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.parse
import urllib.request


class WebClient:
    """A person's session with a brain at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> str:
        """Return the text of a page. Raises ``urllib.error.HTTPError`` for a status of 400 and up."""
        with self.opener.open(self.url + path, timeout=10) as answer:
            return answer.read().decode()

    def sign_in(self, email: str, password: str) -> str:
        """Sign in and return the address that led to."""
        page = self.get("/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token
        form = {"csrfmiddlewaretoken": token.group(1), "username": email, "password": password}
        data = urllib.parse.urlencode(form).encode()
        with self.opener.open(f"{self.url}/login/", data, timeout=10) as answer:
            return answer.geturl()

    @property
    def cookie(self) -> str:
        """The session as a ``Cookie`` header."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
