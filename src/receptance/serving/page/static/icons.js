// Line icons, drawn on a grid of 24 by 24. They say nothing to a screen reader; their buttons do.

const PATHS = {
  menu: ["M4 7h16", "M4 12h16", "M4 17h10"],
  plus: ["M12 5v14", "M5 12h14"],
  search: ["M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14z", "M20 20l-4-4"],
  send: ["M12 19V5", "M6 11l6-6 6 6"],
  stop: ["M7.5 7.5h9v9h-9z"],
  copy: ["M9 9h10v11H9z", "M5 15V4h10"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  edit: ["M4 20h4L19 9l-4-4L4 16z", "M13 7l4 4"],
  again: ["M20 11a8 8 0 1 0-2.3 6.3", "M20 5v6h-6"],
  left: ["M14.5 6l-6 6 6 6"],
  right: ["M9.5 6l6 6-6 6"],
  down: ["M6 9.5l6 6 6-6"],
  trash: ["M5 7h14", "M10 7V4h4v3", "M7 7l1 13h8l1-13"],
  download: ["M12 4v11", "M7 11l5 5 5-5", "M5 20h14"],
  upload: ["M12 16V5", "M7 9l5-5 5 5", "M5 20h14"],
  sliders: ["M4 8h9", "M17 8h3", "M15 6v4", "M4 16h3", "M11 16h9", "M9 14v4"],
  sun: ["M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8z", "M12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21",
    "M5.6 5.6l1 1M17.4 17.4l1 1M18.4 5.6l-1 1M6.6 17.4l-1 1"],
  moon: ["M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z"],
  auto: ["M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16z", "M12 4v16", "M15 5v14", "M18 7v10"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  bookmark: ["M7 4h10v16l-5-4-5 4z"],
  fork: ["M7 8v8", "M7 12c6 0 10 0 10-4", "M7 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
    "M7 20a2 2 0 1 0 0-4 2 2 0 0 0 0 4z", "M17 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4z"],
  keyboard: ["M3 7h18v11H3z", "M7 11h.01M11 11h.01M15 11h.01M8 14.5h8"],
  wave: ["M3 14.5c3 0 3-7 6-7s3 9 6 9 3-5 6-5"],
  alert: ["M12 8v5", "M12 16.5v.01", "M12 3.5l9 16H3z"],
  play: ["M8 5.5l10 6.5-10 6.5z"],
};

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element of SVG with its attributes. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Makes the icon of that name. */
export function icon(name) {
  const paths = PATHS[name].map((d) => svg("path", { d }));
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, ...paths);
}
