// Where in the dashboard one is: `#/view?name=value`. The schedule topic is part of it, so that an address can be sent on.

/// `{view, params}` of the address.
export function route() {
  const [path, query] = splitOnce(location.hash.replace(/^#\/?/, ""), "?");
  return { view: path || "overview", params: new URLSearchParams(query) };
}

/// The address of a view. What is empty is left out; the schedule topic stays what it is, unless it is given.
export function hrefOf(view, params = {}) {
  const all = new URLSearchParams();
  for (const [name, value] of Object.entries({ topic: route().params.get("topic"), ...params })) {
    if (value !== null && value !== undefined && value !== "") all.set(name, value);
  }
  const query = all.toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

/// The schedule topic that is shown: the first, unless the address names another.
export function shownTopic(topics) {
  return route().params.get("topic") ?? topics[0];
}

export function navigate(view, params) {
  location.hash = hrefOf(view, params);
}

function splitOnce(text, by) {
  const at = text.indexOf(by);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
