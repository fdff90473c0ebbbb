// Making elements. Data becomes a text node or an attribute that nothing executes, never markup: there is no other way in
// these files to put anything on the page.

/// An element. Of `properties`: `on` has listeners, `vars` custom properties of its style (the page's policy forbids style
/// attributes), the rest are attributes; those that are `false`, `null` or `undefined` are left out.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name === "vars") for (const [variable, to] of Object.entries(value)) element.style.setProperty(variable, to);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...present(children));
  return element;
}

/// Puts other children in the place of what there is.
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

/// Writes a text only where it is another: what did not change is not laid out again, and stays selected.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/// Text as it is, but for characters that would not be seen, or would make other text look different: those are shown by
/// number. An ID is not what it seems otherwise.
export function visible(text) {
  const pieces = document.createDocumentFragment();
  let from = 0;
  for (const match of text.matchAll(UNSEEN)) {
    pieces.append(text.slice(from, match.index));
    const number = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    pieces.append(h("span", { class: "unseen" }, `U+${number}`));
    from = match.index + match[0].length;
  }
  pieces.append(text.slice(from));
  return pieces;
}

/// A button.
export function button(text, click, properties = {}) {
  return h("button", { type: "button", ...properties, on: { click } }, text);
}

/// A labelled field: label, control, hint. The hint is read out with the control.
export function field(label, control, hint) {
  const id = control.id || (control.id = freshId());
  const hintId = `${id}-hint`;
  if (hint) control.setAttribute("aria-describedby", hintId);
  return h("div", { class: "field" }, h("label", { for: id }, label), control, hint && h("p", { class: "hint", id: hintId }, hint));
}

/// A choice of one among a few, as radio buttons that look like one control.
export function segments(legend, choices, chosen, change) {
  const name = freshId();
  const radios = choices.map(([value, text]) => {
    const input = h("input", { type: "radio", name, value, checked: value === chosen, on: { change: () => change(value) } });
    return h("label", {}, input, h("span", {}, text));
  });
  const element = h("fieldset", { class: "segments" }, h("legend", { class: "unseen-label" }, legend), ...radios);
  return {
    element,
    get value() {
      return element.querySelector("input:checked").value;
    },
    set value(value) {
      element.querySelector(`input[value="${CSS.escape(value)}"]`).checked = true;
    },
  };
}

/// A table that becomes cards where the page is narrow. `columns` are `{name, class?}`. The roles are said because `display`
/// takes them away in the narrow layout.
export function table(caption, columns) {
  const body = h("tbody", { role: "rowgroup" });
  const heads = columns.map((column) => h("th", { scope: "col", role: "columnheader", class: column.class }, column.name));
  const element = h(
    "table",
    { class: "cards", role: "table" },
    h("caption", { class: "unseen-label" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)),
    body,
  );
  const row = (cells, properties = {}) =>
    h(
      "tr",
      { role: "row", ...properties },
      ...cells.map((cell, at) => h("td", { role: "cell", class: columns[at].class, "data-label": columns[at].name }, cell)),
    );
  return { element, body, row };
}

/// A dialog: opens, and is gone once closed. `closed` is called with it.
export function openDialog(title, properties = {}, closed = () => {}) {
  const titleId = freshId();
  const body = h("div", { class: "dialog-body" });
  const dialog = h(
    "dialog",
    { "aria-labelledby": titleId, ...properties },
    h(
      "header",
      { class: "dialog-head" },
      h("h2", { id: titleId }, title),
      button("×", () => dialog.close(), { class: "icon-button", "aria-label": "Close" }),
    ),
    body,
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed();
  });
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, body };
}

/// Says something once: to eyes for some seconds, and to screen readers.
export function say(text) {
  const place = document.getElementById("said");
  fill(place, h("p", {}, text));
  clearTimeout(saying);
  saying = setTimeout(() => fill(place), 6000);
}

/// What went wrong, and what to do, for the place where it was asked for.
export function trouble(error, again) {
  return h(
    "div",
    { class: "trouble", role: "alert" },
    h("p", { class: "trouble-what" }, error.message),
    error.hint && h("p", {}, error.hint),
    again && button("Try again", again),
  );
}

export function freshId() {
  freshId.last = (freshId.last ?? 0) + 1;
  return `k${freshId.last}`;
}

let saying;

/// Controls, and marks that hide, join or turn round what stands beside them.
const UNSEEN = /[\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;

function present(children) {
  return children.flat().filter((child) => child !== null && child !== undefined && child !== false);
}
