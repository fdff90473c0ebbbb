// Before anything is drawn, so that the page does not flash in the other theme.
try {
  const chosen = localStorage.getItem("kms-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* without storage the system's choice holds */ }
