"""AsciiDoc -> blocks. There is no library for it with a permissive licence, so its lines are read here, by Asciidoctor's rules.

`site` knows the page's place in its site, `lines` puts includes in and leaves conditions out, `blocks` reads the blocks and
`inline` the text in them. https://docs.asciidoctor.org/asciidoc/latest/
"""
