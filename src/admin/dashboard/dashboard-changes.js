// What was changed from this page, for whatever shows it.

/// An ID was written; `null`: many were.
export function announce(id) {
  document.dispatchEvent(new CustomEvent("kms:changed", { detail: id }));
}

export function whenChanged(listener) {
  document.addEventListener("kms:changed", (event) => listener(event.detail));
}
