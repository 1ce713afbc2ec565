"use strict";
// The page is whole without this: here are the search in the gallery, its order, and the numbers under the pointer.
(() => {
  document.documentElement.classList.add("has-script");

  // --- the gallery -------------------------------------------------------------------------------------------------
  const gallery = document.getElementById("pictures");
  if (gallery) {
    const STEP = 42;
    const controls = document.querySelector(".controls");
    const [search, order, told] = ["input", "select", "output"].map((name) => controls.querySelector(name));
    const more = document.querySelector(".more");
    const cells = [...gallery.children].map((cell) => ({
      cell,
      text: cell.textContent.toLowerCase(),
      score: Number(cell.dataset.score),
      place: Number(cell.dataset.place),
    }));
    const orders = {
      place: (one, other) => one.place - other.place,
      best: (one, other) => other.score - one.score || one.place - other.place,
      worst: (one, other) => one.score - other.score || one.place - other.place,
    };
    let limit = STEP;
    const show = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = cells.filter(({ text }) => words.every((word) => text.includes(word)));
      for (const { cell } of cells) cell.hidden = true;
      for (const { cell } of found.slice(0, limit)) cell.hidden = false;
      more.hidden = found.length <= limit;
      told.textContent = words.length ? `${found.length} of ${cells.length}` : "";
    };
    search.addEventListener("input", () => { limit = STEP; show(); });
    order.addEventListener("change", () => {
      cells.sort(orders[order.value]);
      gallery.append(...cells.map(({ cell }) => cell));
      show();
    });
    more.querySelector("button").addEventListener("click", () => { limit += 3 * STEP; show(); });
    controls.addEventListener("submit", (event) => event.preventDefault());
    for (const chip of document.querySelectorAll("[data-search]")) {
      chip.addEventListener("click", () => {
        search.value = chip.dataset.search;
        limit = STEP;
        show();
        controls.scrollIntoView({ block: "center" });
      });
    }
    controls.hidden = false;
    show();
  }

  // --- the curves --------------------------------------------------------------------------------------------------
  for (const svg of document.querySelectorAll("svg[data-values]")) {
    const { start, end, curves } = JSON.parse(svg.dataset.values);
    const pointer = svg.querySelector(".pointer");
    const readout = svg.parentElement.querySelector(".readout");
    const width = Number(svg.dataset.width);
    const nearest = (points, x) =>
      points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
    svg.addEventListener("pointermove", (event) => {
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const x = start + (Math.min(Math.max(place.x, 0), width) / width) * (end - start);
      const steps = curves.map(({ points }) => nearest(points, x));
      const step = steps.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best))[0];
      const at = ((step - start) / (end - start)) * width;
      pointer.setAttribute("x1", at);
      pointer.setAttribute("x2", at);
      pointer.removeAttribute("visibility");
      // The curves are measured at different steps: of one that has no value here, the nearest, with its step.
      const values = curves.map(({ name }, index) => {
        const [at_step, value] = steps[index];
        const told = curves.length > 1 ? `${name} ${value}` : `${value}`;
        return at_step === step ? told : `${told} at ${at_step.toLocaleString("en")}`;
      });
      readout.textContent = `step ${step.toLocaleString("en")}: ${values.join(", ")}`;
    });
    svg.addEventListener("pointerleave", () => {
      pointer.setAttribute("visibility", "hidden");
      readout.textContent = "";
    });
  }
})();
