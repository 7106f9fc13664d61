// What the page knows, and who wants to hear of changes.

export class Store {
  #listeners = [];
  #pending = new Set();
  #isScheduled = false;

  constructor(state) {
    this.state = state;
  }

  /** Calls the listener after any of these topics changed, and once now. */
  on(topics, listener) {
    this.#listeners.push({ topics: new Set(topics), listener });
    listener(this.state);
  }

  /** Says what changed. Views are drawn once for all that changes before the next frame. */
  changed(...topics) {
    for (const topic of topics) this.#pending.add(topic);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // A hidden tab draws no frames, but its title and its announcements still matter.
    if (document.hidden) setTimeout(() => this.flush(), 100);
    else requestAnimationFrame(() => this.flush());
  }

  /** Draws what changed now: what its user does next must meet the new view. */
  flush() {
    const pending = this.#pending;
    this.#pending = new Set();
    this.#isScheduled = false;
    for (const { topics, listener } of this.#listeners) {
      if ([...pending].some((topic) => topics.has(topic))) listener(this.state);
    }
  }
}
