"""reStructuredText made here: the exact text that comes out. Sphinx shows the same of the "
"same pages."""

from __future__ import annotations

import pytest
from made_files import read

pytest.importorskip("docutils")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Title\n=====\n\nSee :ref:`the part <part>` and :func:`~os.path.join`.\n", "# Title\n\nSee the part and `join()`.\n"),
        (".. code-block:: python\n   :linenos:\n\n   if x:\n       y()\n", "```python\nif x:\n    y()\n```\n"),
        (".. versionadded:: 2.0\n   Handy.\n\n.. toctree::\n\n   other\n", "Added in version 2.0: Handy.\n"),
        ("=====  =====\nPlan   Price\n=====  =====\nA      5\n=====  =====\n", "| Plan | Price |\n| --- | --- |\n| A | 5 |\n"),
        (".. unknown-thing:: x\n   :option: y\n\n   Kept all the same.\n", "Kept all the same.\n"),
        (
            ".. versionadded:: 2.0\n\n.. versionchanged:: 2.1 Faster.\n\n.. deprecated:: 3\n   Use *that*.\n\n   Soon gone.\n",
            "Added in version 2.0.\n\nChanged in version 2.1: Faster.\n\nDeprecated since version 3: Use that.\n\nSoon gone.\n",
        ),
        (
            ".. warning:: Hot.\n\n.. note::\n\n   First.\n\n   Second.\n\n.. admonition:: Mind *this*\n\n"
            "   - one\n\n.. seealso:: There.\n",
            "Warning: Hot.\n\nNote: First.\n\nSecond.\n\nMind this:\n\n- one\n\nSee also: There.\n",
        ),
        (
            ".. code-block:: sh\n    :caption: ``run.sh``\n\n    ls\n\n.. tabs::\n\n"
            "   .. group-tab:: The *first*\n\n      .. code-block:: text\n\n"
            "         a\n\n   .. code-tab:: py Python\n\n      b\n",
            "`run.sh`\n\n```sh\nls\n```\n\nThe first:\n\n```\na\n```\n\nPython:\n\n```py\nb\n```\n",
        ),
        (
            "Use |tool|_, [1]_ and |v|.\n\n.. |tool| replace:: the *tool*\n.. _tool: https://x.org\n"
            ".. |v| replace:: 3\n\n.. [1] A note.\n",
            "Use the tool, [1] and 3.\n\n[1] A note.\n",
        ),
        (
            "Said:\n\n:Author: Ada\n:Date: today\n\nterm\n  Its *meaning*.\n\n| a line\n| and another\n",
            "Said:\n\n- Author: Ada\n- Date: today\n\n- term: Its meaning.\n\na line\nand another\n",
        ),
        (
            ".. list-table:: Plans\n   :header-rows: 1\n\n   * - Name\n     - Price\n   * - A\n"
            "     - ``5``\n\n.. csv-table::\n   :header: k,v\n\n   a,1\n",
            "Plans\n\n| Name | Price |\n| --- | --- |\n| A | `5` |\n\n| k | v |\n| --- | --- |\n| a | 1 |\n",
        ),
        (
            ".. only:: latex\n\n   No.\n\n.. only:: html\n\n   Yes.\n\n.. highlight:: c\n\n"
            ".. image:: a.png\n   :alt: A.\n\n.. mermaid::\n\n   a --> b\n",
            "Yes.\n\n```\na --> b\n```\n",
        ),
        (
            ":samp:`a{b}` :file:`/x/{y}` :guilabel:`&Save` :menuselection:`A --> B` :data:`.g` "
            ":meth:`~.A.b` :class:`!C` :pep:`8` :abbr:`A (b)`\n",
            "`ab` `/x/y` Save A > B `g` `b()` `C` PEP 8 A (b)\n",
        ),
    ],
)
def test_pages(source: str, text: str) -> None:
    assert read("a.rst", source).text == text


def test_glossaries_numbers_of_lines_and_what_docutils_calls_otherwise() -> None:
    source = (
        ".. glossary::\n\n   pump\n   valve\n      A *machine*.\n\n   tank\n"
        "      Holds :term:`pump`.\n\n.. centered:: In *the* middle\n\n"
        ".. danger:: Hot.\n\n.. parsed-literal::\n\n   run *fast*\n\n.. literalinclude:: x.py\n"
        "   :lines: 1,3-\n\n"
        ".. _plans:\n\n.. list-table:: All plans\n\n   * - a\n\nSee :ref:`plans`.\n\n"
        ".. py:attribute:: P.x\n   :type: int\n   :value: 3\n"
    )
    assert read("a.rst", source, {"x.py": "a\nb\nc\nd\n"}).text == (
        "- pump, valve: A machine.\n- tank: Holds pump.\n\nIn the middle\n\nDanger: Hot.\n\n```\n"
        "run fast\n```\n\n```\na\nc\nd\n```\n\n"
        "All plans\n\n| a |\n| --- |\n\nSee All plans.\n\n`P.x: int = 3`\n"
    )


def test_descriptions_of_code_bear_their_full_names() -> None:
    source = (
        ".. currentmodule:: pumps\n\n.. function:: start(speed)\n\n   Starts.\n\n"
        "   :param speed: How fast.\n\n.. class:: pumps.Pump\n\n"
        "   .. method:: stop\n\n      Stops.\n\n.. autofunction:: tune\n\n.. data:: LIMIT\n"
        ".. class:: big\n\n.. envvar:: PUMPS\n\n   Set it.\n"
    )
    content = read("a.rst", source)
    assert content.text == (
        "`pumps.start(speed)`\n\nStarts.\n\n- Parameter speed: How fast.\n\n`class pumps.Pump`\n\n"
        "`stop()`\n\nStops.\n\n"
        "`pumps.tune()`\n\n`pumps.LIMIT`\n\n`PUMPS`\n\nSet it.\n"
    )
    assert content.notes == {"descriptions that come from code left out": 1}


SITE = {
    "docs/conf.py": "version = '4.2'\nrst_epilog = '''\n.. |firm| replace:: Acme\n'''\nrelease = version\n",
    "docs/start.rst": ".. _top:\n\n=============\nStart ``here``\n=============\n\nText.\n",
    "docs/sub/b.rst": "Other\n-----\n",
}


def test_titles_of_pages_and_sections() -> None:
    source = (
        ":doc:`/start`, :doc:`b`, :doc:`../start.rst`, :doc:`so <b>`, :doc:`gone/a-page`.\n\n"
        ".. _deep-part:\n.. _Same:\n\nDeep *part*\n---------\n\n"
        ":ref:`deep-part`, :ref:`same`, :ref:`other-label`, :ref:`genindex`.\n"
    )
    assert read("docs/sub/a.rst", source, SITE).text == (
        "Start here, Other, Start here, so, a page.\n\n# Deep part\n\nDeep part, Deep part, other label, Index.\n"
    )


def test_substitutions_of_the_configuration_which_is_never_run() -> None:
    assert read("docs/a.rst", "|firm| |version|.\n", SITE).text == "Acme 4.2.\n"
    assert read("docs/a.rst", "|x|.\n", {"docs/conf.py": "import os; os.remove('a')\nversion = (\n"}).text == "\\|x|.\n"


def test_includes_reach_the_source_alone() -> None:
    others = {"docs/part.rst": "Included.\n", "code.py": "a = 1\nb = 2\n"}
    source = (
        ".. include:: part.rst\n\n.. literalinclude:: ../code.py\n   :lines: 2\n"
        "   :language: python\n   :caption: code.py\n\n"
        ".. include:: /etc/passwd\n"
    )
    content = read("docs/a.rst", source, others)
    assert content.text == "Included.\n\ncode.py\n\n```python\nb = 2\n```\n"
    assert content.notes == {"includes resolved": 2, "unresolved includes": 1}
