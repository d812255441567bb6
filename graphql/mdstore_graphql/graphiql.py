"""GraphiQL, the page on which a person asks GraphQL: its assets are in this package and come from nowhere else.

`graphql/graphiql/fetch` makes `assets/` again from the packages and checksums that are named there.
"""

from pathlib import Path
from typing import Final

ASSETS: Final = Path(__file__).parent / "assets"
ASSETS_PATH: Final = "/graphiql"

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere. Styles are also inline: the editor sets them while it runs."""

PAGE: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mdstore · GraphQL</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{ASSETS_PATH}/graphiql.css">
<link rel="stylesheet" href="{ASSETS_PATH}/page.css">
</head>
<body>
<div id="graphiql">Loading ...</div>
<script src="{ASSETS_PATH}/react.js"></script>
<script src="{ASSETS_PATH}/react-dom.js"></script>
<script src="{ASSETS_PATH}/graphiql.js"></script>
<script src="{ASSETS_PATH}/page.js"></script>
</body>
</html>
"""
