/* Tells the page around the frame how tall the form is. Without it the form scrolls. */
(function () {
  function tell() {
    parent.postMessage({ inkorgHeight: document.documentElement.offsetHeight }, "*");
  }
  new ResizeObserver(tell).observe(document.documentElement);
  addEventListener("load", tell);
})();
