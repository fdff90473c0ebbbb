// Walking over what is pending, page by page. Where little matches, the instance answers with many empty pages: the walk goes
// on by itself, tells how far it is, and can be stopped. Nothing here touches the page.

import { api } from "./dashboard-api.js";

export const PAGE = 100;
/// By itself it goes on for so long; then somebody has to say so.
const PATIENCE_MS = 60_000;
/// Pages that were left are kept to go back to, for a cursor only leads on. So many: each may hold a megabyte.
const KEPT = 30;

export class Walk {
  pages = [];
  /// Which page is shown.
  at = -1;
  #query;
  #told;
  #running = null;
  #firstKept = 0;

  /// `told({state, requests, lookedAt, sinceMs, found})` hears of progress; `state` is `walking`, `full`, `end`, `stopped` or `paused`.
  constructor(query, told) {
    this.#query = query;
    this.#told = told;
  }

  get page() {
    return this.pages[this.at];
  }

  get hasNext() {
    return this.at < this.pages.length - 1 || Boolean(this.page?.cursor) || this.at < 0;
  }

  get hasPrevious() {
    return this.at > this.#firstKept;
  }

  get isWalking() {
    return this.#running !== null;
  }

  stop() {
    this.#running?.abort();
  }

  previous() {
    this.at -= 1;
    this.#tell(this.page.state);
  }

  async next() {
    if (this.at < this.pages.length - 1) {
      this.at += 1;
      this.#tell(this.page.state);
      return;
    }
    this.pages.push({ schedules: [], cursor: this.page?.cursor ?? null, coverage: null, requests: 0, lookedAt: 0, state: "walking", number: this.at + 2 });
    this.at += 1;
    if (this.pages.length - this.#firstKept > KEPT) {
      this.pages[this.#firstKept].schedules = [];
      this.#firstKept += 1;
    }
    await this.goOn();
  }

  /// Fills the page that is shown.
  async goOn() {
    const page = this.page;
    const controller = new AbortController();
    this.#running = controller;
    page.began = Date.now();
    this.#tell("walking");
    try {
      do {
        const query = { ...this.#query, limit: PAGE - page.schedules.length, cursor: page.cursor };
        const answer = await api.schedules(query, controller.signal);
        page.schedules.push(...answer.schedules);
        page.cursor = answer.next_cursor;
        page.coverage = answer.partitions;
        page.requests += 1;
        page.lookedAt += answer.looked_at ?? 0;
        page.state = stateOf(page);
        if (page.state === "walking") this.#tell("walking");
      } while (page.state === "walking");
    } catch (error) {
      page.state = "stopped";
      if (!controller.signal.aborted) throw error;
    } finally {
      if (this.#running === controller) this.#running = null;
    }
    if (this.page === page) this.#tell(page.state);
  }

  #tell(state) {
    const { requests, lookedAt, schedules, began } = this.page;
    this.#told({ state, requests, lookedAt, found: schedules.length, sinceMs: Date.now() - began });
  }
}

function stateOf(page) {
  if (!page.cursor) return "end";
  if (page.schedules.length >= PAGE) return "full";
  return Date.now() - page.began > PATIENCE_MS ? "paused" : "walking";
}
