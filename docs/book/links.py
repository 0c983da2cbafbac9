#!/usr/bin/env python3
"""A preprocessor of mdBook: links that leave docs/ lead to the files on GitHub, because the site does not have them."""
import json, posixpath, re, sys

FILES = "https://github.com/editwar/editwar/blob/main/"
LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")


def follow(items):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            folder = posixpath.dirname(chapter["path"] or "")

            def link(match):
                start, to, anchor, end = match.groups()
                path = posixpath.normpath(posixpath.join("docs", folder, to))
                is_page = path.startswith("docs/") and path.endswith((".md", ".png"))
                # mdBook makes index.html of a README.md.
                return match[0].replace("README.md", "index.md") if is_page else f"{start}{FILES}{path}{anchor or ''}{end}"

            chapter["content"] = LINK.sub(link, chapter["content"])
            follow(chapter["sub_items"])


if sys.argv[1:2] != ["supports"]:
    _, book = json.load(sys.stdin)
    follow(book.get("items") or book["sections"])
    json.dump(book, sys.stdout)
