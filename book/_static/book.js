// An equation that is wider than the page scrolls in its own box; the keyboard must be able to reach it there.
const watch = new ResizeObserver(entries => {
  for (const { target } of entries) {
    const box = target.closest("div.math");
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
});
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("div.math").forEach(box => [box, ...box.children].forEach(part => watch.observe(part)));
});
