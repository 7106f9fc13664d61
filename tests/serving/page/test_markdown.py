"""What a model writes is shown as Markdown, and whatever it writes, nothing of it is ever run."""

from typing import Any

import pytest

from tests.serving.page.actions import last_answer, say, tool
from tests.serving.page.attacks import ATTACKS, check_prose
from tests.serving.page.model_server import ModelServer

OUTLINE = """(text) => import("/static/markdown.js").then(({MarkdownView}) => {
    const outline = (node) => {
        if (node.nodeType === 3) return node.data;
        const tag = node.localName;
        if (["button", "svg"].includes(tag)) return "";
        const inner = [...node.childNodes].map(outline).join("");
        return ["div", "span"].includes(tag) ? inner : `<${tag}>${inner}</${tag}>`;
    };
    const view = new MarkdownView();
    view.update(text);
    return outline(view.element);
})"""

EXAMPLES = [
    ("plain", "<p>plain</p>"),
    ("one\n\ntwo", "<p>one</p><p>two</p>"),
    ("one\ntwo", "<p>one<br></br>two</p>"),
    ("**a** *b* `c` ~~d~~", "<p><strong>a</strong> <em>b</em> <code>c</code> <del>d</del></p>"),
    ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
    ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
    (r"\*not\* so", "<p>*not* so</p>"),
    ("`a ** b`", "<p><code>a ** b</code></p>"),
    ("**open", "<p>**open</p>"),
    ("# One\n## Two ##", "<h2>One</h2><h3>Two</h3>"),
    ("#hashtag", "<p>#hashtag</p>"),
    ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
    ("- a\n  - b\n- c", "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"),
    ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
    ("1. a\n\n2. b", "<ol><li>a</li><li>b</li></ol>"),
    ("1. a\n   - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
    ("- a\n\n  more", "<ul><li>a<p>more</p></li></ul>"),
    ("so:\n- a", "<p>so:</p><ul><li>a</li></ul>"),
    ("in 1984.\n1985. Next", "<p>in 1984.<br></br>1985. Next</p>"),
    ("> a\n> b", "<blockquote><p>a<br></br>b</p></blockquote>"),
    ("---", "<hr></hr>"),
    ("```\nx < 1\n```", "text<pre><code>x < 1</code></pre>"),
    ("```py\n# a\n", "py<pre><code># a\n</code></pre>"),
    ("~~~\n```\n~~~", "text<pre><code>```</code></pre>"),
    (
        "|a|b|\n|-|:-:|\n|1|`x\\|y`|",
        "<table><thead><tr><th>a</th><th>b</th></tr></thead>"
        "<tbody><tr><td>1</td><td><code>x|y</code></td></tr></tbody></table>",
    ),
    ("a | b", "<p>a | b</p>"),
    ("[t](https://a.org/x)", "<p><a>t</a></p>"),
    ("see https://a.org/x.", "<p>see <a>https://a.org/x</a>.</p>"),
    ("<https://a.org>", "<p><a>https://a.org</a></p>"),
    ("<b>bold</b> &amp; <!-- x -->", "<p><b>bold</b> &amp; <!-- x --></p>"),
]


@pytest.mark.parametrize(("text", "outline"), EXAMPLES)
def test_markdown_becomes_elements(module_page: Any, text: str, outline: str):
    assert module_page.evaluate(OUTLINE, text) == outline


def test_text_that_grows_ends_as_text_that_came_at_once(module_page: Any):
    text = "\n\n".join(text for text, _ in EXAMPLES)
    grown = """(text) => import("/static/markdown.js").then(({MarkdownView}) => {
        const [growing, whole] = [new MarkdownView(), new MarkdownView()];
        for (let end = 0; end <= text.length; end += 3) growing.update(text.slice(0, end));
        growing.update(text);
        const first = growing.element.firstChild;
        growing.update(text + " and more");
        const isKept = growing.element.firstChild === first;
        growing.update(text);
        whole.update(text);
        return [growing.element.isEqualNode(whole.element), isKept];
    })"""
    assert module_page.evaluate(grown, text) == [True, True]


@pytest.mark.parametrize(
    "unit",
    ["*a ", "**", "[", "[a](", "`", "``a`", "> ", "- ", "  - a\n", "|", "|-", "<", "![", "_a",
     "~~", "# ", " ", "\n", "\\", "https://a.b/) ", "http://", "*a_b`[", "a](b)", "1. \n\n",
     "```\n", "|a|\n|-|\n", "\t", "a*", "[](https://a.b", "é\u2028"],
)  # fmt: skip
def test_no_text_takes_long(module_page: Any, unit: str):
    text = unit * (60_000 // len(unit))
    parse = """(text) => import("/static/markdown.js").then(({MarkdownView}) => {
        const view = new MarkdownView();
        const start = performance.now();
        view.update(text);
        return performance.now() - start;
    })"""
    # Anything that grows as the square of its length would take minutes.
    assert module_page.evaluate(parse, text) < 4000


def test_no_answer_is_ever_run_or_fetches_anything(page: Any, model_server: ModelServer):
    show_each = """(attacks) => import("/static/markdown.js").then(({MarkdownView}) => {
        for (const attack of attacks) {
            const view = new MarkdownView();
            document.getElementById("scroller").append(view.element);
            view.update(attack);
        }
    })"""
    page.evaluate(show_each, ATTACKS)
    model_server.answers["all"] = "\n\n".join(ATTACKS)
    say(page, "all")
    assert page.locator(".prose").count() > len(ATTACKS)
    check_prose(page)
    # That nothing was fetched and no policy broken is asserted by `watch`, as in every test.


def test_what_a_user_or_a_file_says_is_not_run_either(page: Any):
    attack = "<img src=x onerror='window.harm = 1'>"
    say(page, attack)
    assert page.locator(".said").inner_text() == attack
    assert page.locator(".entry .words").inner_text() == "<img src=x onerror='window.harm = 1'>"
    assert page.evaluate("() => window.harm") is None


def test_the_code_of_an_answer_can_be_copied(page: Any, context: Any, model_server: ModelServer):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    model_server.answers["q"] = "so:\n\n```py\nx = 1\nif x:\n    y = 2\n```"
    say(page, "q")
    page.get_by_role("button", name="Copy code").click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == "x = 1\nif x:\n    y = 2"
    tool(last_answer(page), "Copy")
    page.wait_for_timeout(50)
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied == model_server.answers["q"]


def test_code_is_coloured(page: Any, model_server: ModelServer):
    model_server.answers["q"] = "```python\ndef f(): return 'a#b', 1.5  # why\n```"
    say(page, "q")
    parts = page.evaluate(
        """() => [...document.querySelectorAll("pre span")].map(
            ({className, textContent}) => [className.replace("code-", ""), textContent])"""
    )
    assert parts == [
        ["keyword", "def"], ["call", "f"], ["keyword", "return"], ["string", "'a#b'"],
        ["number", "1.5"], ["comment", "# why"],
    ]  # fmt: skip
