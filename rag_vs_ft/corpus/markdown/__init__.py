"""Markdown in any dialect -> plain CommonMark with tables.

`parser` makes tokens, `builder` makes a tree of blocks of them (with the HTML inside, `html`), the dialect puts the blocks in
order (`arrange`), and `writer` writes them out again. What a dialect adds is a subclass of `dialect.Dialect` in its own file.
"""
