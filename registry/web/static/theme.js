// Which theme somebody chose is known before anything is drawn: this is no module, and the page waits for it.
(() => {
  const themes = ["auto", "light", "dark"];
  const root = document.documentElement;
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("theme") ?? "auto";
  } catch { /* storage may be forbidden: then nothing is remembered */ }
  const set = (theme) => {
    chosen = themes.includes(theme) ? theme : "auto";
    if (chosen === "auto") delete root.dataset.theme;
    else root.dataset.theme = chosen;
  };
  set(chosen);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const say = () => { button.textContent = `Theme: ${chosen}`; };
    button.hidden = false;
    say();
    button.addEventListener("click", () => {
      set(themes[(themes.indexOf(chosen) + 1) % themes.length]);
      say();
      try {
        localStorage.setItem("theme", chosen);
      } catch { /* as above */ }
    });
  });
})();
