"""Showing URLs to people without the passwords in them. Every message that names a database's URL goes through here."""

import re
from typing import Final

_SECRETS: Final = re.compile(r"(?i)([?&](?:password|passwd|sslpassword|ssl_key_password)=)[^&]*")
# To the last @ of all: what is wrong with a URL may be that its password has an @ or a / as it is.
_PASSWORD: Final = re.compile(r"(?s)(//[^:/?#@]*):.*@")


def shown(url: str) -> str:
    """The URL with `***` in the place of every password; also of what is no URL, but looks as if it should be one."""
    return _SECRETS.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))
