/* Puts the sign-up form where this script stands. */
(function () {
  var here = document.currentScript;
  var frame = document.createElement("iframe");
  frame.src = {{ address }};
  frame.title = {{ title }};
  frame.loading = "lazy";
  frame.style.cssText = "display:block;width:100%;height:26rem;border:0";
  frame.setAttribute("sandbox", "allow-forms allow-same-origin allow-scripts allow-popups allow-popups-to-escape-sandbox");
  window.addEventListener("message", function (event) {
    if (event.source !== frame.contentWindow || !event.data) return;
    var height = Number(event.data.inkorgHeight);
    if (height > 0 && height < 5000) frame.style.height = Math.ceil(height) + "px";
  });
  here.parentNode.insertBefore(frame, here);
})();
