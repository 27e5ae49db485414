// An equation or a line of code that is wider than the page scrolls in its own box; the keyboard must reach it there.
const watch = new ResizeObserver(entries => {
  for (const { target } of entries) {
    const box = target.closest("div.math, pre");
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
});
window.addEventListener("load", async () => {
  document.querySelectorAll("article pre").forEach(box => watch.observe(box));
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("div.math").forEach(box => {
    watch.observe(box);
    [...box.children].forEach(part => watch.observe(part)); // it grows when it is typeset
  });
});
