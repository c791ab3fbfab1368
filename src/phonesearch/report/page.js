(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");

  function themed(layout, width) {
    var copy = JSON.parse(JSON.stringify(layout));
    var ink = dark.matches ? "#d6dce2" : "#2a323b";
    var grid = dark.matches ? "#323b45" : "#e3e8ec";
    var paper = dark.matches ? "#1d232a" : "#ffffff";
    copy.paper_bgcolor = "rgba(0,0,0,0)";
    copy.plot_bgcolor = "rgba(0,0,0,0)";
    copy.font = Object.assign({}, copy.font, {
      color: ink,
      family: 'system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif',
    });
    copy.hoverlabel = { bgcolor: paper, bordercolor: grid, align: "left", font: { color: ink } };
    copy.modebar = { bgcolor: "rgba(0,0,0,0)", color: dark.matches ? "#5a6673" : "#b3bcc5", activecolor: ink };
    Object.keys(copy).forEach(function (key) {
      if (/^[xy]axis\d*$/.test(key)) {
        copy[key] = Object.assign(
          { gridcolor: grid, linecolor: grid, zeroline: false, showline: true, ticks: "" },
          copy[key]
        );
      }
    });
    if (width < 620) {
      copy.font.size = 11;
      Object.keys(copy).forEach(function (key) {
        var title = /^xaxis\d*$/.test(key) && copy[key].title;
        if (title && title.text) title.text = title.text.replace(" (", "<br>(");
      });
      copy.margin = Object.assign({}, copy.margin, { l: 44, r: 6 });
    }
    return copy;
  }

  function draw() {
    document.querySelectorAll("[data-figure]").forEach(function (box) {
      var figure = JSON.parse(document.getElementById(box.dataset.figure).textContent);
      Plotly.react(box, figure.data, themed(figure.layout, box.clientWidth), {
        responsive: true,
        displaylogo: false,
        displayModeBar: box.id === "pareto" && box.clientWidth >= 620 ? "hover" : false,
        modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      });
    });
  }

  draw();
  dark.addEventListener("change", draw);
})();
