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
    copy.modebar = { bgcolor: "rgba(0,0,0,0)", color: grid, activecolor: ink };
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
        modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
      });
    });
  }

  draw();
  dark.addEventListener("change", draw);
})();
