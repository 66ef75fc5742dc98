/* The figure of chapter 1, to play with. The notebook hands over its settings and draws the same
   picture without this script; tests/book/test_valley.py holds the computation to the notebook's. */
(() => {
  "use strict";

  // --- the computation ----------------------------------------------------------------------------
  const NAMES = ["constant", "cosine", "cycle"];

  /* Uniform numbers in [0, 1): Mulberry32. */
  function generator(seed) {
    let a = seed | 0;
    return () => {
      a = (a + 0x6D2B79F5) | 0;
      let t = Math.imul(a ^ (a >>> 15), a | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  /* The three rates of every update. */
  function schedules({ min_lr, max_lr, step_size, num_steps }) {
    const updates = Array.from({ length: num_steps }, (_, i) => i);
    return {
      constant: updates.map(() => (min_lr + max_lr) / 2),
      cosine: updates.map((i) => min_lr + (max_lr - min_lr) * ((1 + Math.cos((Math.PI * i) / num_steps)) / 2)),
      cycle: updates.map((i) => {
        const place = i % (2 * step_size);
        return min_lr + (max_lr - min_lr) * ((place <= step_size ? place : 2 * step_size - place) / step_size);
      }),
    };
  }

  /* All runs with each of the rates, on the same noise: the mean losses by update; and the moment of
     stopping: every run's loss and place, and the first run's path. */
  function simulate(set) {
    const { curvatures, start, noise, runs, seed, num_steps, stop } = set;
    const rates = schedules(set), uniform = generator(seed), wide = Math.sqrt(12), found = {};
    const scale = curvatures.map((curvature) => noise * Math.sqrt(curvature));
    const loss = (x, y) => (x * x * curvatures[0] + y * y * curvatures[1]) / 2;
    for (const name of NAMES) {
      found[name] = { means: [loss(...start)], losses: [], places: [], path: [start] };
      found[name].x = new Float64Array(runs).fill(start[0]);
      found[name].y = new Float64Array(runs).fill(start[1]);
    }
    for (let update = 0; update < num_steps; update += 1) {
      const sums = [0, 0, 0];
      for (let run = 0; run < runs; run += 1) {
        const along = scale[0] * ((uniform() - 0.5) * wide), across = scale[1] * ((uniform() - 0.5) * wide);
        NAMES.forEach((name, k) => {
          const { x, y } = found[name], rate = rates[name][update];
          x[run] -= rate * (curvatures[0] * x[run] + along);
          y[run] -= rate * (curvatures[1] * y[run] + across);
          sums[k] += loss(x[run], y[run]);
        });
      }
      NAMES.forEach((name, k) => {
        const { x, y, means, path } = found[name];
        means.push(sums[k] / runs);
        if (update < stop) path.push([x[0], y[0]]);
        if (update + 1 === stop) {
          found[name].places = Array.from(x, (_, run) => [x[run], y[run]]);
          found[name].losses = Array.from(x, (_, run) => loss(x[run], y[run]));
        }
      });
    }
    return { rates, found };
  }

  /* The lowest mean loss, and all that are not above it by two standard errors of the differences. */
  function lowest(found) {
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const means = NAMES.map((name) => mean(found[name].losses));
    const best = found[NAMES[means.indexOf(Math.min(...means))]].losses;
    return NAMES.filter((name) => {
      const over = found[name].losses.map((value, run) => value - best[run]), middle = mean(over);
      const variance = over.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (over.length - 1);
      return middle <= 2 * Math.sqrt(variance / over.length);
    });
  }

  window.clrValley = { generator, schedules, simulate, lowest };

  // --- the words ----------------------------------------------------------------------------------
  const root = document.getElementById("valley");
  if (!root) return;
  const given = JSON.parse(root.dataset.settings);
  const grouped = (number) => number.toLocaleString("en-GB");

  function sentence({ stop, step_size, num_steps }, found) {
    const into = stop % (2 * step_size), cycle = Math.ceil(stop / (2 * step_size)), best = lowest(found);
    const where = into ? `${grouped(into)} updates into cycle ${cycle}` : `at the end of cycle ${cycle}`;
    const who = { constant: "the constant rate", cosine: "the cosine rate", cycle: "the cycle" };
    const verdict = best.length > 1 ? `${best.join(" and ")} tie for the best` : `${who[best]} is best`;
    const means = NAMES.map((name) => `${name} ${found[name].means[stop].toFixed(4)}`).join(", ");
    return `Stopped after ${grouped(stop)} of ${grouped(num_steps)} updates, ${where}: ${verdict}. ` +
      `Mean loss: ${means}.`;
  }

  // --- the page -----------------------------------------------------------------------------------
  const FIELDS = { // What a reader moves: label, least, most, step.
    stop: ["stop after", 10, given.num_steps, 10],
    max_lr: ["upper bound", 0.05, 1.5, 0.05],
    min_lr: ["lower bound", 0, 0.05, 0.005],
    cycle: ["cycle length", 20, 500, 20],
    noise: ["noise", 0, 2, 0.1],
  };
  const first = { ...given, cycle: 2 * given.step_size };
  root.innerHTML = `<p aria-live="polite"></p><svg role="img"></svg><form autocomplete="off">${
    Object.entries(FIELDS).map(([name, [label, min, max, step]]) => `<div><label for="valley-${name}">${label}
      <output for="valley-${name}"></output></label><input type="range" id="valley-${name}" name="${name}"
      min="${min}" max="${max}" step="${step}" value="${first[name]}"></div>`).join("")
  }<div><button type="button">Play</button> <button type="reset">Reset</button></div></form>
    <p class="note">Each dot is one of ${given.runs} runs at the moment of stopping, the thin line the path of one run.
    Shaded bands are cycles.</p>`;
  const [said, svg, form] = root.children, play = form.querySelector("button");

  function read() {
    const set = { ...given };
    for (const name of Object.keys(FIELDS)) set[name] = form.elements[name].valueAsNumber;
    return { ...set, step_size: set.cycle / 2 };
  }

  function draw(set, { rates, found }) {
    // One unit of the drawing is one pixel of the page: its letters are as large on a telephone.
    const width = svg.clientWidth, gap = 8, side = (width - 2 * gap) / 3, high = Math.min(140, 0.7 * side);
    const left = 58, right = width - 20, ratesTop = high + 56, ratesBottom = ratesTop + 46;
    const top = ratesBottom + 16, bottom = top + 124, height = bottom + 36;
    const add = (parent, tag, attributes, text = "") => {
      const element = parent.appendChild(document.createElementNS(svg.namespaceURI, tag));
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      element.textContent = text;
      return element;
    };
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);

    NAMES.forEach((name, k) => { // The valleys: from -5.6 to 2 along, from -2 to 2 across.
      const x = (value) => ((value + 5.6) / 7.6) * side, y = (value) => ((2 - value) / 4) * high;
      const place = ([along, across]) => `${x(along).toFixed(1)} ${y(across).toFixed(1)}`;
      const at = k * (side + gap), { path, places, means } = found[name];
      add(svg, "line", { class: `line ${name}`, x1: at, x2: at + 22, y1: 9, y2: 9 });
      add(svg, "text", { x: at + 27, y: 13 }, name);
      add(svg, "text", { class: "mean", x: at, y: 31 }, means[set.stop].toFixed(4));
      const valley = add(svg, "svg", { x: at, y: 38, width: side, height: high });
      for (const level of [0.02, 0.08, 0.2, 0.4, 0.8, 1.4]) {
        const [rx, ry] = set.curvatures.map((curvature) => Math.sqrt((2 * level) / curvature));
        add(valley, "ellipse", { cx: x(0), cy: y(0), rx: x(rx) - x(0), ry: y(0) - y(ry) });
      }
      add(valley, "polyline", { class: `path ${name}`, points: path.map(place).join(" ") });
      add(valley, "path", { class: `dots ${name}`, d: places.map((p) => `M${place(p)}h0`).join("") });
    });

    const x = (update) => left + ((right - left) * update) / set.num_steps;
    const LEAST = 0.001, MOST = 3, share = (value) => Math.log(value / LEAST) / Math.log(MOST / LEAST);
    const y = (value) => bottom - (bottom - top) * Math.min(1, Math.max(0, share(Math.max(value, 1e-9))));
    const rateY = (value) => ratesBottom - (ratesBottom - ratesTop) * (value / Math.max(set.max_lr, set.min_lr));
    let bands = "";
    for (let start = 0; start < set.num_steps; start += 2 * set.cycle) {
      bands += `M${x(start)} ${ratesTop}H${x(Math.min(start + set.cycle, set.num_steps))}V${bottom}H${x(start)}Z`;
    }
    add(svg, "path", { class: "bands", d: bands });
    add(svg, "text", { class: "end", x: left - 6, y: ratesTop + 9 }, String(set.max_lr));
    add(svg, "text", { class: "end", x: left - 6, y: ratesBottom + 3 }, "0");
    add(svg, "text", { class: "name", x: left + 2, y: ratesTop - 5 }, "rate");
    for (const tick of [0.001, 0.01, 0.1, 1]) {
      add(svg, "line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) });
      add(svg, "text", { class: "end", x: left - 6, y: y(tick) + 4 }, tick === LEAST ? `≤${tick}` : String(tick));
    }
    add(svg, "text", { class: "name", x: left + 2, y: top - 3 }, `mean loss of ${set.runs} runs`);
    for (let tick = 0; tick <= 5; tick += 1) {
      const update = Math.round((set.num_steps * tick) / 5);
      add(svg, "text", { class: "middle", x: x(update), y: bottom + 16 }, grouped(update));
    }
    add(svg, "text", { class: "end name", x: right, y: bottom + 32 }, "update");
    for (const name of NAMES) {
      const line = (values, height) => values.map((v, i) => `${x(i).toFixed(1)},${height(v).toFixed(1)}`).join(" ");
      add(svg, "polyline", { class: `line ${name}`, points: line(rates[name], rateY) });
      add(svg, "polyline", { class: `line ${name} loss`, points: line(found[name].means, y) });
    }
    add(svg, "line", { class: "stop", x1: x(set.stop), x2: x(set.stop), y1: ratesTop - 4, y2: bottom });
  }

  let last = null; // What is drawn.

  function update({ quiet = false } = {}) {
    const set = read(), result = simulate(set);
    for (const output of form.querySelectorAll("output")) {
      output.textContent = grouped(form.elements[output.htmlFor.value.replace("valley-", "")].valueAsNumber);
    }
    draw(...(last = [set, result]));
    if (quiet) return; // Else a screen reader would say every frame.
    said.textContent = sentence(set, result.found);
    svg.setAttribute("aria-label", `Three valleys with ${set.runs} runs each; below, rate and mean loss ` +
      `by update. ${said.textContent}`);
  }

  /* Lets the moment of stopping run from the start to the planned end, in six seconds. */
  let frame = 0;
  function halt() {
    cancelAnimationFrame(frame);
    frame = 0;
    play.textContent = "Play";
  }
  play.addEventListener("click", () => {
    if (frame) {
      halt();
      return update();
    }
    const begin = performance.now(), { stop } = form.elements;
    play.textContent = "Pause";
    frame = requestAnimationFrame(function next(now) {
      const share = Math.min(1, Math.max(0, now - begin) / 6000);
      stop.value = share * given.num_steps;
      if (share === 1) halt();
      else frame = requestAnimationFrame(next);
      update({ quiet: share < 1 });
    });
  });
  form.addEventListener("input", () => (halt(), update()));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => (halt(), update())));

  // The notebook's own picture stays for paper. This one goes to the top, above the folded code.
  root.closest(".cell").classList.add("still");
  root.classList.add("live");
  document.querySelector("h1 ~ p").after(root);
  update();
  // On paper it has no width, and is not drawn.
  new ResizeObserver(() => svg.clientWidth && draw(...last)).observe(svg);
})();
