(() => {
  const root = document.documentElement, tip = document.getElementById("tip");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // a sandboxed frame, such as MLflow's viewer, refuses storage
  const kept = action => { try { return action(localStorage); } catch { return null; } };

  const chosen = kept(store => store.getItem("downsize-theme"));
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    kept(store => store.setItem("downsize-theme", root.dataset.theme));
  });

  const place = event => {
    const gap = 14, box = tip.getBoundingClientRect();
    const x = event.clientX + gap + box.width > innerWidth ? event.clientX - gap - box.width : event.clientX + gap;
    const y = event.clientY + gap + box.height > innerHeight ? event.clientY - gap - box.height : event.clientY + gap;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${Math.max(4, y)}px`;
  };
  document.addEventListener("pointerover", event => {
    const target = event.target.closest("[data-tip]");
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = target.dataset.tip;
    place(event);
  });
  document.addEventListener("pointermove", event => { if (!tip.hidden) place(event); });
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
})();
