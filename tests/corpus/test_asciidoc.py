"""AsciiDoc pages made here: the exact text that comes out. Asciidoctor's HTML for the same "
"pages says the same."""

from __future__ import annotations

import pytest
from made_files import read

from rag_vs_ft.corpus import child
from rag_vs_ft.corpus.readers import FileContext, LeftOut


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "= Pump manual\nAda L <a@x.org>\nv1.2, 2024-05-06\n:v: 12\n\n"
            "Open valve {v} *slowly*, see xref:a.adoc[the list].\n"
            "{author}, {revnumber}.\n",
            "# Pump manual\n\nOpen valve 12 slowly, see the list.\nAda L, 1.2.\n",
        ),
        (
            "See {url-org}/docs/issues/1[issue #1^] and {url-org}[the site^], version {v}, <{host}> [1].\n",
            "See issue #1 and the site, version {v}, <{host}> [1].\n",
        ),
        (
            "Pump manual\n===========\n\nValves\n------\n\nOpen.\n\nSmall ones\n~~~~~~~~~~\n\nShut.\n",
            "# Pump manual\n\n## Valves\n\nOpen.\n\n### Small ones\n\nShut.\n",
        ),
        ("== Closed ==\n\n:leveloffset: +1\n\n== Deeper\n\n[discrete]\n== So too\n", "## Closed\n\n### Deeper\n\n### So too\n"),
        (
            ":a: one \\\n two\n:b: {a} three\n\n{b}, {B}, \\{b}, {c}, {set:c:4}{c}, {counter:n} {counter:n}\n\n:!c:\n\n{c}\n",
            "one two three, one two three, {b}, {c}, 4, 1 2\n\n{c}\n",
        ),
        ("'''\n\nimage::a.png[A picture]\n\n.The tank\nimage::b.png[]\n\ntoc::[]\n\n<<<\n\nEnd.\n", "The tank\n\nEnd.\n"),
        (
            "First +\nsecond\n// hidden\nthird\n\n////\nhidden\n\ntoo\n////\n\n[comment]\nAnd this.\n\n* a list\n",
            "First\nsecond\nthird\n\n- a list\n",
        ),
    ],
)
def test_pages_and_headings(source: str, text: str) -> None:
    assert read("a.adoc", source).text == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("*a* _b_ `c` #d# **e**f __g__h ``i``j x^2^ H~2~O \"`k`\" '`l`' m`'s", "a b `c` d ef gh `i`j x^2 H2O “k” ‘l’ m’s"),
        (
            "[.role]#text# [line-through]#gone#, a_b_c, 2*3*4, * no bold * and \\*stars*",
            "text gone, a_b_c, 2*3*4, * no bold * and *stars*",
        ),
        (
            "`+{raw} *x*+` and +*y*+ and +++<u>z</u>+++ and pass:[*w*] and pass:q[*v*] and $$_u_$$",
            "`{raw} *x*` and *y* and z and *w* and v and _u_",
        ),
        (
            "Press kbd:[Ctrl+Shift+P], kbd:[Ctrl,K] or btn:[OK] in menu:File[Save > As]; \\btn:[No]",
            "Press Ctrl+Shift+P, Ctrl+K or OK in File > Save > As; btn:[No]",
        ),
        (
            "https://x.org[the site,window=_blank] https://y.org <https://z.org> link:a/b.pdf[] "
            'link:c["q, r",role=s] mailto:a@x.org[write]',
            "the site https://y.org https://z.org a/b.pdf q, r write",
        ),
        (
            "A note.footnote:n[It is *here*.] Again.footnote:n[] Last.footnote:[End.]",
            "A note. (It is here.) Again. (It is here.) Last. (End.)",
        ),
        (
            "((Pumps)) are (((machines,pumps)))fine.indexterm:[x] indexterm2:[Valves] [[here]]too. [[[ref1]]] A book.",
            "Pumps are fine. Valves too. [ref1] A book.",
        ),
        (
            "(C) 2024 Acme(TM) -- a pump&#8217;s &amp; valve&copy; life--long \\-> x",
            "© 2024 Acme™ — a pump’s & valve© life—long -> x",
        ),
        ("`a -> b`, `--all`, `'x' \\=> 'y'`, `<<x>>`-free `{empty}`", "`a -> b`, `--all`, `'x' => 'y'`, `x`-free"),
        ("{cpp} {plus}{vbar} {startsb}x{endsb} icon:check[] image:b.png[Start] image:c.png[]", "C++ +| [x] [check] Start"),
        ("stem:[x^2 * y^3] latexmath:[\\sqrt{4}]", "x^2 * y^3 \\sqrt{4}"),
    ],
)
def test_text_of_a_line(source: str, text: str) -> None:
    assert read("a.adoc", source).text.rstrip("\n") == " ".join(text.split())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "* one\n** deeper\n* two\n+\nmore of two\n\n. first\n. second\n",
            "- one\n  - deeper\n- two\n\n  more of two\n  1. first\n  2. second\n",
        ),
        ("// hidden\nifdef::x[]\nno\nendif::[]\nCPU:: fast\nDisk::\nlarge\n", "- CPU: fast\n- Disk: large\n"),
        ("a:: 1\nb::\nc:: 2\n\nd::\n+\n----\n3\n----\nafter", "- a: 1\n\n- b, c: 2\n\n- d:\n\n  ```\n  3\n  ```\n\n  after\n"),
        ("A:: x\n* one\n* two\nB:: y\nB1::: z\nC:: last\n", "- A: x\n  - one\n  - two\n- B: y\n  - B1: z\n- C: last\n"),
        (
            ". one\n+\n----\ncode\n----\n. two\n\n  $ literal\n\n. three\n",
            "1. one\n\n   ```\n   code\n   ```\n2. two\n\n   ```\n   $ literal\n   ```\n3. three\n",
        ),
        ("* a\n** b\n\n+\nOf a.\n\n* c\n", "- a\n  - b\n\n  Of a.\n- c\n"),
        ("* [x] done\n* [ ] open\n* [*] too\n", "- [x] done\n- [ ] open\n- [x] too\n"),
        ("[start=4]\n. four\n. five\n\n//-\n\n7. seven\n8. eight\n", "4. four\n5. five\n\n7. seven\n8. eight\n"),
        (
            "* long\n  line\n* next\n\n.Title of code\n[source,sh]\n----\nls\n----\n",
            "- long\n  line\n- next\n\nTitle of code:\n\n```sh\nls\n```\n",
        ),
        ("* one\n+\n--\nTwo parts:\n\n. x\n. y\n--\n* two\n", "- one\n\n  Two parts:\n  1. x\n  2. y\n- two\n"),
        (
            "A sentence\n- that is no list\n\n- but this\n\nis one.\n",
            "A sentence\n\\- that is no list\n\n- but this\n\nis one.\n",
        ),
    ],
)
def test_lists(source: str, text: str) -> None:
    assert read("a.adoc", source).text == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "[source,python]\n----\nx = [1] # <1>\ny <!--2-->\nz <.>\n----\n<1> A list.\n<2> Another.\n",
            "```python\nx = [1] # (1)\ny (2)\nz (3)\n```\n\n1. A list.\n2. Another.\n",
        ),
        (
            ":v: 3\n\n[,sh,subs=+attributes]\n----\nget {v}\n\n// kept\n----\n\n....\n{v} *x*\n....\n\n```ruby\nputs\n```\n",
            "```sh\nget 3\n\n// kept\n```\n\n```\n{v} *x*\n```\n\n```ruby\nputs\n```\n",
        ),
        (
            ":source-language: go\n\n[source]\nfunc()\n\n[listing]\na\n\n[literal]\nb *c*\n\n indented\n"
            "   more\n\n[source%linenums,yaml]\n--\nd: e\n--\n",
            "```go\nfunc()\n```\n\n```\na\n```\n\n```\nb *c*\n```\n\n```\nindented\n  more\n```\n\n```yaml\nd: e\n```\n",
        ),
        ('[subs="quotes,macros"]\n----\nrun *fast* https://x.org[x] `y`\n----\n', "```\nrun fast x y\n```\n"),
        (
            ".Mind\n[WARNING]\n====\nHot.\n\n* very\n====\n\nTIP: Cool\nit.\n\n[NOTE]\nPlain.\n\n"
            "[CAUTION]\n--\n----\nx\n----\n--\n",
            "Warning: Mind:\n\nHot.\n\n- very\n\nTip: Cool\nit.\n\nNote: Plain.\n\nCaution:\n\n```\nx\n```\n",
        ),
        (
            '[quote,Ada L,Letters]\n____\nSo it *is*.\n____\n\n[verse]\nTwo\nlines\n\n"Said."\n-- Bo\n\n> marked\n> down\n',
            "> So it is.\n>\n> — Ada L, Letters\n\n> Two\n> lines\n\n> Said.\n>\n> — Bo\n\n> marked\n> down\n",
        ),
        (
            ".More\n[%collapsible]\n====\nHidden at first.\n====\n\n****\nAside.\n****\n\n++++\n"
            "<p>Raw <b>text</b></p>\n++++\n\n[stem]\n++++\nx^2\n++++\n",
            "More:\n\nHidden at first.\n\nAside.\n\nRaw text\n\n```\nx^2\n```\n",
        ),
        ("----\nall:\n\tmake\n----\n\n....\n\ta\n\t\tb\n....\n", "```\nall:\n\tmake\n```\n\n```\na\n\tb\n```\n"),
        ("----\nnever closed\n", "```\nnever closed\n```\n"),
    ],
)
def test_blocks(source: str, text: str) -> None:
    assert read("a.adoc", source).text == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            '[cols="1,1"]\n|===\n|Plan |Price\n\n|A |5\n|===\n\nNOTE: With VAT.\n',
            "| Plan | Price |\n| --- | --- |\n| A | 5 |\n\nNote: With VAT.\n",
        ),
        (
            '.Plans\n[cols="1m,a,~",options=header]\n|===\n|Name\n|Holds\n|Rest\n|x\n|\n* one\n* two\n// hidden\n|a +\nb\n|===\n',
            "Plans:\n\n| Name | Holds | Rest |\n| --- | --- | --- |\n| `x` | - one - two | a b |\n",
        ),
        (
            "|===\n|a |b |c\n\n2+|wide |z\n.2+|tall |1 |2\n|3 |4\n3*|same\n|===\n",
            "| a | b | c |\n| --- | --- | --- |\n| wide |  | z |\n| tall | 1 | 2 |\n| tall | 3 | 4 |\n| same | same | same |\n",
        ),
        (
            "|===\n|a\\|b |`x \\| y`\n|{vbar} |Two\n\nparts.\n|===\n",
            "| a\\|b | `x \\| y` |\n| --- | --- |\n| \\| | Two parts. |\n",
        ),
        (
            ',===\na,"b, c"\n1,"say ""x"""\n,===\n\n:===\nk:v\\:w\n:===\n\n'
            "[format=csv,separator=;,%header]\n|===\nx;y\n1;2\n|===\n",
            '| a | b, c |\n| --- | --- |\n| 1 | say "x" |\n\n| k | v:w |\n| --- | --- |\n\n| x | y |\n| --- | --- |\n| 1 | 2 |\n',
        ),
        ("[cols=2*]\n|===\n|k a|\n----\nlong\ncode\n----\n|===\n", "k\n\n```\nlong\ncode\n```\n"),
        ("|===\n|Outer |In\n\n|x a|\n!===\n!p !1\n!q !2\n!===\n|===\n", "| Outer | In |\n| --- | --- |\n| x | p, 1; q, 2 |\n"),
    ],
)
def test_tables(source: str, text: str) -> None:
    assert read("a.adoc", source).text == text


def test_a_small_csv_before_does_not_cut_the_cells_of_a_table() -> None:
    """The longest field that Python's reader takes is a setting of the process."""
    read("a.csv", "a,b\n1,2\n")
    cell = "long " * 60
    assert cell.strip() in read("a.adoc", f',===\na,"b, c"\n1,"{cell}"\n,===\n').text
    assert "| a | b, c |" in read("a.adoc", f',===\na,"b, c"\n1,"{cell * 600}"\n,===\n').text


SITE = {
    "docs/antora.yml": "name: pumps\ntitle: Pumps\nversion: '3.1'\nasciidoc:\n  attributes:\n    model: P-7@\n"
    "    url-org: https://x.org\n    off: false\n",
    "antora-playbook.yml": "site:\n  title: Our docs\nasciidoc:\n  attributes:\n    model: P-0\n    vendor: Acme\n"
    "    pair: '{vendor} {model}'\n",
    "docs/modules/ROOT/pages/other.adoc": "= The Other {model}\n\n[#part]\n== A Part\n\n.Listed\n[source#code,sh]\n----\n"
    "= Not a title\n----\n",
    "docs/modules/more/pages/index.adoc": "= More Pumps\n",
    "docs/modules/more/partials/p.adoc": "Shared by {vendor}.\n",
    "docs/modules/more/examples/e.rb": "# tag::all[]\nputs 1\n# tag::inner[]\nputs 2\n# end::inner[]\n# end::all[]\nputs 3\n",
}


def page(source: str, path: str = "docs/modules/ROOT/pages/a.adoc") -> str:
    return read(path, source, SITE).text


def test_attributes_of_the_component_and_of_the_site() -> None:
    assert page("{pair}, {vendor}, {site-title}, {page-component-title} {page-component-version}, {page-module}, {off}\n") == (
        "Acme P-7, Acme, Our docs, Pumps 3.1, ROOT, {off}\n"
    )
    assert page(
        ":model: P-9\n\n{model}, {pair}. ifdef::site-gen-antora[]\n\nifdef::site-gen-antora[Antora.]\n{url-org}/a[link]\n"
    ) == ("P-9, Acme P-7. ifdef::site-gen-antora[]\n\nAntora.\nlink\n")


def test_cross_references_by_title() -> None:
    assert page(
        "xref:other.adoc[], xref:other.adoc#part[], xref:other.adoc#code[], xref:more:index.adoc[], "
        "xref:pumps:more:index.adoc[]\n"
    ) == ("The Other P-7, A Part, Listed, More Pumps, More Pumps\n")
    assert page("xref:gone.adoc[], xref:strange::a-b.adoc[], xref:other:x/index.adoc[], xref:other.adoc[So, named]\n") == (
        "gone, a b, x, So, named\n"
    )
    own = "= T\n\n<<tuned>>, <<_big_valves>>, <<big-valves>>, <<Big valves>>, <<code,that>>, <<code>>, <<none>>, <<t2>>\n\n"
    assert page(
        own + "[[tuned]]\n=== Tuned *up*\n\n== Big valves\n\n.A *run*\n[[code]]\n----\nx\n----\n\n[[t2,Second]]Para.\n"
    ).startswith("# T\n\nTuned up, Big valves, Big valves, Big valves, that, A run, none, Second\n")


def test_references_in_titles_end() -> None:
    assert page("[[a]]\n== See <<b>>\n\n[[b]]\n== See <<a>>\n") == "## See See See b\n\n## See See See a\n"


def test_includes_between_modules_tags_lines_and_levels() -> None:
    assert page("include::more:partial$p.adoc[]\n\ninclude::other.adoc[leveloffset=+1,lines=1..4]\n\n== Back\n") == (
        "Shared by Acme.\n\n## The Other P-7\n\n### A Part\n\n## Back\n"
    )
    code = "----\ninclude::more:example$e.rb[{}]\n----\n"
    kept = {
        "": "123",
        "tag=inner": "2",
        "tags=all;!inner": "1",
        "tag=**": "123",
        "tag=!all": "3",
        "tag=*": "12",
        "lines=2;4": "12",
        'lines="6..-1"': "3",
    }
    for options, numbers in kept.items():
        made = page(code.format(options))
        assert "".join(made[place + 5] for place in range(len(made)) if made.startswith("puts ", place)) == numbers, options
    assert page("----\n\\include::a[]\n----\n") == "```\ninclude::a[]\n```\n"


def test_includes_that_are_not_there_are_counted() -> None:
    others = {
        "m/partials/p.adoc": "Shared.\n",
        "m/pages/code.py": "# tag::a[]\nx\n# end::a[]\ny\n",
        "m/pages/me.adoc": "include::me.adoc[]\n",
    }
    content = read(
        "m/pages/a.adoc",
        "include::partial$p.adoc[]\n\n----\ninclude::code.py[tag=a]\n----\n\ninclude::gone.adoc[]\n\n"
        "include::x.adoc[opts=optional]\n"
        "include::../../../etc/passwd[]\n\n{lost} and \\{kept}\n",
        others,
    )
    assert content.text == "Shared.\n\n```\nx\n```\n\n{lost} and {kept}\n"
    assert content.notes == {"includes resolved": 2, "unresolved includes": 2, "attributes without a value left as {name}": 1}
    assert read("m/pages/b.adoc", "include::me.adoc[]\n", others).notes["unresolved includes"] == 1


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("ifdef::a,b[]\n1\nendif::[]\nifdef::a+b[]\n2\nendif::[]\nifndef::b[3]\n", "1 3"),
        ('ifeval::["{a}" == "x"]\n1\nendif::[]\nifeval::[{n} >= 10]\n2\nendif::[]\nifeval::["{a}" != "x"]\n3\nendif::[]\n', "1"),
        ("ifdef::b[]\nifdef::a[]\n1\nendif::a[]\n2\nendif::b[]\n3\n", "3"),
        ("----\n:b: set in code\n----\n\nifdef::b[1]\nifndef::b[2]\nifdef::backend-html5[3]\n", "2 3"),
    ],
)
def test_conditions(source: str, text: str) -> None:
    made = read("a.adoc", f":a: x\n:n: 9\n\n{source}").text
    assert " ".join(line for line in made.split() if line.isdigit()) == text


def test_description_and_front_matter() -> None:
    content = read("a.adoc", "= The *Page*\n:name: pumps\n:description: About {name}.\n\nText.\n")
    assert (content.title, content.description, content.text) == ("The Page", "About pumps.", "# The Page\n\nText.\n")
    content = read("a.adoc", "---\ntitle: Head\ndescription: D\n---\n\nText.\n")
    assert (content.title, content.description, content.text) == ("Head", "D", "Text.\n")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("docs/modules/ROOT/nav.adoc", "navigation"),
        ("docs/modules/ROOT/partials/x.adoc", "include"),
        ("docs/modules/ROOT/examples/sub/x.adoc", "include"),
        ("guide/_attributes.adoc", "include"),
    ],
)
def test_what_is_no_page(path: str, reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        child.read("asciidoc", b"* xref:a.adoc[]\n", FileContext(path, SITE.get))


def test_a_folder_whose_name_ends_like_one_of_antora() -> None:
    others = {"homepages/b.adoc": "= Beside\n", "x-modules/m/partials/p.adoc": "No.\n"}
    assert read("homepages/a.adoc", "xref:b.adoc[], {page-module}\n", others).text == "Beside, {page-module}\n"
    assert read("x-modules/m/partials/q.adoc", "Text.\n", others).text == "Text.\n"


def test_deep_nesting_ends() -> None:
    deep = (
        "\n".join("=" * length for length in range(4, 60)) + "\ntext\n" + "\n".join("=" * length for length in range(59, 3, -1))
    )
    assert "text" in read("a.adoc", deep).text
    assert read("a.adoc", "\n".join(f"{'*' * (1 + n % 6)} item {n}" for n in range(300))).text.count("item") == 300


def test_long_lines_of_authors_and_comparisons_are_read_in_time() -> None:
    """Each once took seconds for 10 KB, and minutes for these; the suite's time-out is the limit."""
    assert "Text." in page("= Title\n" + "a" * 20_000 + " b" * 20_000 + "\n\nText.\n")
    spaces = " " * 50_000
    assert (
        page(f"= Title\n\nifeval::[{spaces}a ]\nGone.\nendif::[]\n\nifeval::[ 1  <{spaces}2 ]\nText.\nendif::[]\n")
        == "# Title\n\nText.\n"
    )
