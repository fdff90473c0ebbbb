// Light, dark, or as the system has it. A plain script that runs before the first paint, so that nothing flashes.
"use strict";

(() => {
  const CHOICES = ["system", "light", "dark"];
  const KEY = "kms.theme";

  const kept = () => {
    try {
      const theme = localStorage.getItem(KEY);
      return CHOICES.includes(theme) ? theme : "system";
    } catch {
      return "system"; // Storage is switched off: the choice lasts as long as the page.
    }
  };

  const apply = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };

  const choose = (theme) => {
    apply(theme);
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // As above.
    }
    document.dispatchEvent(new Event("kms:theme"));
  };

  let current = kept();
  apply(current);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("kms:theme")));

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const say = () => {
      button.setAttribute("aria-label", `Theme: ${current}`);
      button.title = `Theme: ${current}. Change`;
      button.dataset.choice = current;
    };
    button.addEventListener("click", () => {
      current = CHOICES[(CHOICES.indexOf(current) + 1) % CHOICES.length];
      choose(current);
      say();
    });
    say();
  });
})();
