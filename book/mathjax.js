// Where the page is narrow, a numbered equation starts at the left: centred, it would leave room for its number twice.
window.MathJax.chtml = { displayAlign: window.matchMedia("(max-width: 576px)").matches ? "left" : "center" };
