// The messages of the branch that is shown, and where the reader is in them.

import { h, showChildren } from "./dom.js";
import { icon } from "./icons.js";
import { MessageView } from "./message.js";
import { childrenByParent, chooseSibling, pathOf } from "./tree.js";

// Within so many pixels of the end, the view stays there as the text grows.
const NEAR_END = 80;

export class Thread {
  #views = new Map();

  constructor(element, scroller, store, { session, states, library }) {
    Object.assign(this, { element, scroller, store });
    this.handlers = {
      regenerate: (node) => session.regenerate(node),
      edit: (node, text) => session.edit(node, text),
      saveState: (node) => states.save(node),
      choose: (node, step) => {
        chooseSibling(store.state.current, node, step);
        library.save(store.state.current);
        store.changed("thread");
      },
    };
    this.isFollowing = true;
    this.down = h("button", { type: "button", id: "to-end", class: "plain", hidden: true,
      "aria-label": "To the end", title: "To the end", on: { click: () => this.#toEnd("smooth") } }, icon("down"));
    scroller.after(this.down);
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    // The panel, or a phone's keyboard, changes how much is seen.
    new ResizeObserver(() => this.isFollowing && this.#toEnd()).observe(scroller);
    store.on(["opened"], () => this.#open());
    store.on(["thread", "states", "run"], () => this.#draw());
    store.on(["sent"], () => this.#toEnd());
  }

  #open() {
    this.#views.clear();
    this.element.replaceChildren();
    this.isFollowing = true;
    this.#draw();
    this.#toEnd();
  }

  #draw() {
    const { current, runs, states } = this.store.state;
    const run = runs.get(current.id);
    const children = childrenByParent(current);
    const path = pathOf(current, children);
    const views = path.map((node) => {
      const view = this.#views.get(node.id) ?? new MessageView(node, this.handlers);
      this.#views.set(node.id, view);
      const siblings = children.get(node.parent);
      view.update({
        isRunning: run?.node === node,
        isBusy: Boolean(run),
        place: { index: siblings.indexOf(node), count: siblings.length },
        canSaveState: states !== null,
        isKept: Boolean(states?.some(({ id }) => id === node.state?.id)),
      });
      return view.element;
    });
    showChildren(this.element, views);
    this.element.hidden = path.length === 0;
    if (this.isFollowing) this.#toEnd();
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.isFollowing = scrollHeight - scrollTop - clientHeight < NEAR_END;
    this.down.hidden = this.isFollowing;
  }

  #toEnd(behavior = "instant") {
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: isStill ? "instant" : behavior });
  }
}
