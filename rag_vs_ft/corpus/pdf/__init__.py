"""PDF -> blocks. pdfplumber finds words, their fonts and ruled tables; what makes a document of them is here.

`lines` puts the words of a page into lines in reading order, `blocks` makes headings, paragraphs, lists and tables of the lines.
"""
