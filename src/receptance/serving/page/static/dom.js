// Builds elements. Text only ever becomes text: nothing here, or anywhere in the page, parses HTML.

/**
 * Makes an element. `properties` are attributes, but for `class`, `on` (listeners by event) and
 * `data` (dataset). A value of true gives an empty attribute; false, null and undefined give none.
 * Children are nodes, strings, or nothing.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "on") listen(element, value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function listen(element, listeners) {
  for (const [event, listener] of Object.entries(listeners)) {
    element.addEventListener(event, listener);
  }
}

/** Shows exactly these children in the element, in order; those already there are not touched. */
export function showChildren(element, children) {
  children.forEach((child, index) => {
    if (element.childNodes[index] !== child) {
      element.insertBefore(child, element.childNodes[index] ?? null);
    }
  });
  while (element.childNodes.length > children.length) element.lastChild.remove();
}

/** Sets an attribute only when it differs, so that assistive technology is not told twice. */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
