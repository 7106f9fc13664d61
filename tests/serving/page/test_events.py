"""The page reads server-sent events as the standard says, wherever they are cut."""

from typing import Any

import pytest

PARSE = """([text, size]) => import("/static/sse.js").then(async ({readEvents}) => {
    const bytes = new TextEncoder().encode(text);
    const stream = new ReadableStream({start(controller) {
        for (let at = 0; at < bytes.length; at += size) {
            controller.enqueue(bytes.slice(at, at + size));
        }
        controller.close();
    }});
    const events = [];
    for await (const data of readEvents(stream)) events.push(data);
    return events;
})"""

STREAM = (
    'data: {"a": 1}\n\n: ping\n\ndata:no space\n\nevent: x\ndata: two\ndata: lines\nid: 7\n\n'
    "data: 世界 é 🌍\n\n\n\ndata\n\ndata: [DONE]\n\ndata: unfinished"
)
EVENTS = ['{"a": 1}', "no space", "two\nlines", "世界 é 🌍", "[DONE]"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_the_same_wherever_the_stream_is_cut(module_page: Any, size: int, end: str):
    assert module_page.evaluate(PARSE, [STREAM.replace("\n", end), size]) == EVENTS
