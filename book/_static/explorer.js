/* The policy explorer: reads the form of book/explorer.md, draws the rate, writes the Python lines.
   tests/book/test_explorer.py holds the formula to clr/policies.py. */
(() => {
  "use strict";

  // --- the formula --------------------------------------------------------------------------------
  /* OneCycleLR's phases: the last iteration of each, its first rate and its last. */
  function phases({ max_lr, total_steps, pct_start, div_factor, final_div_factor, three_phase }) {
    const first = max_lr / div_factor, last = first / final_div_factor;
    const rise = pct_start * total_steps, end = total_steps - 1;
    return three_phase
      ? [[rise - 1, first, max_lr], [2 * rise - 2, max_lr, first], [end, first, last]]
      : [[rise - 1, first, max_lr], [end, max_lr, last]];
  }

  /* The rate at an iteration from 0; step_size, warmup and total_steps in iterations. The place in
     the cycle is found in whole numbers, so the rate at iteration 1e9 is as right as at 10. */
  function rate(set, iteration) {
    const { policy, base_lr, max_lr, step_size, gamma, total_steps, warmup, anneal_strategy } = set;
    const cosine = (from, to, share) => to + ((from - to) / 2) * (1 + Math.cos(Math.PI * share));
    if (policy === "cosine") { // keras.optimizers.schedules.CosineDecay
      return iteration < warmup
        ? base_lr + (max_lr - base_lr) * (iteration / warmup)
        : cosine(max_lr, base_lr, Math.min(1, (iteration - warmup) / (total_steps - warmup)));
    }
    if (policy === "one_cycle") {
      const all = phases(set), place = Math.min(iteration, total_steps - 1);
      const at = all.findIndex(([end], k) => place <= end || k === all.length - 1);
      const begin = at ? all[at - 1][0] : 0, [end, from, to] = all[at], share = (place - begin) / (end - begin);
      return anneal_strategy === "cos" ? cosine(from, to, share) : from + (to - from) * share;
    }
    const place = iteration % (2 * step_size), cyclesBefore = (iteration - place) / (2 * step_size);
    const fraction = (place <= step_size ? place : 2 * step_size - place) / step_size;
    const scale = {
      triangular: () => 1,
      triangular2: () => 0.5 ** cyclesBefore,
      exp_range: () => Math.exp(iteration * Math.log(gamma)),
    }[policy]();
    return base_lr + (max_lr - base_lr) * fraction * scale;
  }

  // --- the settings -------------------------------------------------------------------------------
  const form = document.getElementById("explorer");
  const [svg, summary, lines] = ["svg", ".summary", "pre"].map((part) => form.querySelector(part));
  const [copy, link, status] = ["button", ".actions a", "[role=status]"].map((part) => form.querySelector(part));

  const CYCLIC = ["triangular", "triangular2", "exp_range"];
  const ONLY = { // These fields are hidden under other policies, and what they hold is not judged.
    base_lr: [...CYCLIC, "cosine"],
    step_size: CYCLIC,
    gamma: ["exp_range"],
    warmup: ["cosine"],
    ...Object.fromEntries(
      ["pct_start", "div_factor", "final_div_factor", "anneal_strategy", "three_phase"].map((name) => [name, ["one_cycle"]]),
    ),
  };
  const LIMITS = { // Far beyond any training; within them all whole numbers are exact.
    base_lr: [0, 1000], max_lr: [1e-12, 1000], gamma: [0, 1],
    step_size: [1, 10000], warmup: [0, 10000], pct_start: [0, 1], div_factor: [1, 1e9], final_div_factor: [1, 1e9],
    epochs: [1, 10000], batch_size: [1, 1e9], examples: [1, 1e9],
  };
  const WHOLE = ["step_size", "warmup", "epochs", "batch_size", "examples"];
  const CHOICES = ["anneal_strategy", "three_phase"];
  const FIELDS = [...Object.keys(LIMITS), ...CHOICES];

  /* Reads the form: the settings, and what is wrong with them by field, in the package's words. */
  function read() {
    const policy = form.elements.policy.value, set = { policy }, wrong = {};
    const used = FIELDS.filter((name) => !ONLY[name] || ONLY[name].includes(policy));
    set.anneal_strategy = form.elements.anneal_strategy.value;
    set.three_phase = form.elements.three_phase.value === "True";
    for (const name of used.filter((one) => !CHOICES.includes(one))) {
      const text = form.elements[name].value.trim(), value = Number(text), [low, high] = LIMITS[name];
      const whole = WHOLE.includes(name), kind = whole ? "a whole number" : "a number, such as 0.01 or 1e-2";
      set[name] = value;
      if (text === "" || !Number.isFinite(value) || (whole && !Number.isInteger(value))) {
        wrong[name] = `\`${name}\` must be ${kind}.`;
      } else if (name === "gamma" && !(value > 0 && value <= 1)) {
        wrong[name] = "`gamma` must be in (0, 1].";
      } else if (name === "pct_start" && !(value > 0 && (set.three_phase ? value <= 0.5 : value < 1))) {
        wrong[name] = `\`pct_start\` must be in (0, ${set.three_phase ? "0.5] with three phases" : "1)"}.`;
      } else if (value < low || value > high) {
        wrong[name] = `\`${name}\` must be at ${value < low ? `least ${low}` : `most ${grouped(high)}`}.`;
      }
    }
    const right = (...names) => names.every((name) => used.includes(name) && !(name in wrong));
    if (right("base_lr", "max_lr") && set.max_lr < set.base_lr) {
      wrong.max_lr = "`max_lr` must be at least `base_lr`.";
    }
    if (right("batch_size", "examples") && set.batch_size > set.examples) {
      wrong.batch_size = "`batch_size` must be at most `examples`: an epoch needs a full batch.";
    }
    set.steps = Math.floor(set.examples / set.batch_size); // in an epoch
    set.total_steps = set.epochs * set.steps;
    set.cycle = CYCLIC.includes(policy) ? 2 * set.step_size : set.epochs; // in epochs
    if (right("warmup", "epochs") && set.warmup >= set.epochs) {
      wrong.warmup = "`warmup` must be below `epochs`.";
    }
    set.step_size *= set.steps;
    set.warmup *= set.steps;
    if (right("pct_start", "epochs", "batch_size", "examples")) {
      const turns = [0, ...phases(set).map(([end]) => end)];
      if (turns.some((turn, k) => k && turn <= turns[k - 1])) {
        wrong.epochs = "`epochs` must make more iterations, so that each phase has one.";
      }
    }
    return { set, wrong, used };
  }

  // --- the words ----------------------------------------------------------------------------------
  const grouped = (number) => number.toLocaleString("en-GB");
  const many = (number, thing, things = `${thing}s`) => `${grouped(number)} ${number === 1 ? thing : things}`;

  /* A number in a few characters, as Python would print it: 0.004, 4e-5. */
  function short(number, digits = 3) {
    const rounded = Number(number.toPrecision(digits));
    return rounded === 0 || rounded >= 1e-4 ? String(rounded) : rounded.toExponential();
  }

  /* What stands under each field, when it is right. */
  function notes(set) {
    const { policy, max_lr, gamma, steps, total_steps, step_size, warmup, examples, batch_size } = set;
    const over = examples % batch_size, first = max_lr / set.div_factor;
    const tenth = 0.1 ** (1 / total_steps), digits = 3 + String(total_steps).length;
    return {
      base_lr: policy === "cosine" ? "The first rate, and the last" : "Lower bound",
      max_lr: CYCLIC.includes(policy) ? "Upper bound" : "The highest rate",
      step_size: many(step_size, "iteration"),
      gamma: `Leaves ${short(100 * gamma ** total_steps, 2)}% of the amplitude; ` +
        `${short(tenth, digits)} would leave 10%`,
      warmup: many(warmup, "iteration"),
      pct_start: `${short(100 * set.pct_start)}% of the training to rise`,
      div_factor: `The first rate: ${short(first)}`,
      final_div_factor: `The last rate: ${short(first / set.final_div_factor)}`,
      anneal_strategy: set.anneal_strategy === "cos" ? "Half a cosine wave a phase" : "A straight line a phase",
      three_phase: set.three_phase ? "Down to the first rate, then the last" : "Down to the last rate at once",
      epochs: many(total_steps, "iteration"),
      batch_size: `${many(steps, "full batch", "full batches")} an epoch`,
      examples: over ? `${many(over, "example")} left over` : "None left over",
    };
  }

  /* Counts the cycles, and names the remedy if the last would be cut short. */
  function cycles({ policy, epochs, cycle, warmup, steps }) {
    if (policy === "one_cycle") return `One cycle over ${many(epochs, "epoch")}.`;
    if (policy === "cosine") {
      const up = warmup ? `${many(warmup / steps, "epoch")} of warm-up, then one` : "One";
      return `${up} fall over ${many(epochs - warmup / steps, "epoch")}: training ends where the rate is low.`;
    }
    const into = epochs % cycle, whole = (epochs - into) / cycle;
    const count = `${many(whole, "whole cycle")} of ${many(cycle, "epoch")}`;
    if (into === 0) return `${count}: training ends where the rate is low.`;
    const remedy = [whole, whole + 1].filter(Boolean).map((n) => grouped(n * cycle)).join(" or ");
    return `${count}, and training would stop in mid-cycle, ${many(into, "epoch")} into the next. ` +
      `Whole cycles take ${remedy} epochs.`;
  }

  const ONE_CYCLE = { // What OneCycleLR has if it is not told.
    pct_start: 0.3, anneal_strategy: "cos", div_factor: 25, final_div_factor: 1e4, three_phase: false,
  };

  function python(set) {
    const { policy, base_lr, max_lr, gamma, epochs, batch_size, steps, examples, cycle } = set;
    const call = (name, given) => `${name}(\n${given.map((argument) => `    ${argument},\n`).join("")})`;
    const named = (...names) => names.map((name) => `${name}=${set[name]}`);
    const counted = `steps = len(x) // ${batch_size}  # ${steps} with ${examples} examples
n = ${batch_size} * steps  # full batches only
`;
    const fit = `model.fit(x[:n], y[:n], batch_size=${batch_size}, epochs=${epochs}`;
    if (policy === "cosine") {
      const warmup = set.warmup / steps;
      const given = warmup
        ? [base_lr, `decay_steps=${epochs - warmup} * steps`, `alpha=${base_lr} / ${max_lr}`,
          `warmup_target=${max_lr}`, `warmup_steps=${warmup} * steps`]
        : [max_lr, `decay_steps=${epochs} * steps`, `alpha=${base_lr} / ${max_lr}`];
      return `import keras

${counted}schedule = ${call("keras.optimizers.schedules.CosineDecay", given)}
model.optimizer.learning_rate = schedule  # between compile and the first fit
${fit})
`;
    }
    const name = policy === "one_cycle" ? "OneCycleLR" : "CyclicLR";
    const words = { anneal_strategy: `"${set.anneal_strategy}"`, three_phase: set.three_phase ? "True" : "False" };
    const given = policy === "one_cycle"
      ? [...named("max_lr"), `total_steps=${epochs} * steps`,
        ...Object.keys(ONE_CYCLE).filter((one) => set[one] !== ONE_CYCLE[one])
          .map((one) => `${one}=${words[one] ?? set[one]}`)]
      : [...named("base_lr", "max_lr"), `step_size=${cycle / 2} * steps`, `mode="${policy}"`];
    if (policy === "exp_range") given.push(`gamma=${gamma}`);
    return `from clr import ${name}

${counted}cycle = ${call(name, given)}
${fit}, callbacks=[cycle])
`;
  }

  /* Puts a text in place of an element's content, what stands in backticks as code. */
  function write(element, text) {
    if (element.textContent === text.replaceAll("`", "")) return; // Screen readers would say it again.
    const code = (name) => Object.assign(document.createElement("code"), { textContent: name });
    element.replaceChildren(...text.split("`").map((part, index) => (index % 2 ? code(part) : part)));
  }

  // --- the drawing --------------------------------------------------------------------------------
  /* The iterations to draw: every turn, so that no peak is missed, and an even grid between them. */
  function drawn({ policy, step_size, total_steps, warmup }) {
    const GRID = 600, all = new Set();
    for (let k = 0; k <= GRID; k += 1) all.add(Math.floor((total_steps * k) / GRID));
    if (policy === "cosine") all.add(warmup);
    if (CYCLIC.includes(policy)) for (let i = 0; i <= total_steps; i += step_size) all.add(i);
    return [...all].sort((a, b) => a - b);
  }

  /* The least of 1, 2, 5, 10, 20, 50, ... (or 0.1, 0.2, ...) that is not below a number. */
  function nice(number) {
    const power = 10 ** Math.floor(Math.log10(number));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= number * (1 - 1e-9));
  }

  /* Empties a drawing; returns its size, and what adds to it. One of its units is one pixel of the
     page: its letters are as large on a telephone. */
  function blank(drawing) {
    const { width, height } = drawing.getBoundingClientRect();
    drawing.replaceChildren();
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const add = (tag, attributes, text = "") => {
      const element = drawing.appendChild(document.createElementNS(drawing.namespaceURI, tag));
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      element.textContent = text;
      return element;
    };
    return { width, height, add };
  }

  function draw(set) {
    const { width, height, add } = blank(svg), right = width - 26, top = 44, bottom = height - 42;
    const y = (value) => bottom - ((bottom - top) * value) / set.max_lr;

    // The reader's font decides how much room the rates beside the axis need.
    const step = nice(set.max_lr / 5);
    const ticks = Array.from({ length: Math.floor((set.max_lr / step) * (1 + 1e-9)) + 1 }, (_, k) => k * step);
    const labels = ticks.map((tick) => add("text", { class: "y", y: y(tick) + 4 }, short(tick)));
    const left = 9 + Math.max(...labels.map((label) => label.getComputedTextLength()));
    for (const label of labels) label.setAttribute("x", left - 7);
    const x = (epoch) => left + ((right - left) * epoch) / set.epochs;

    // Marks under the axis stand where cycles end, or at every second, fifth, ... end if those are many.
    const unit = !CYCLIC.includes(set.policy) || set.cycle > set.epochs ? 1 : set.cycle;
    const between = unit * Math.max(1, nice(set.epochs / unit / Math.max(2, (right - left) / 56)));
    let bands = "";
    for (let start = 0; start < set.epochs; start += 2 * set.cycle) {
      bands += `M${x(start)} ${top}H${x(Math.min(start + set.cycle, set.epochs))}V${bottom}H${x(start)}Z`;
    }
    add("path", { class: "bands", d: bands });
    for (let epoch = 0; epoch <= set.epochs; epoch += between) {
      add("text", { class: "x", x: x(epoch), y: bottom + 17 }, String(epoch));
      if (unit === set.cycle && epoch > 0) {
        add("text", { class: "cycle", x: x(epoch - set.cycle / 2), y: top - 6 }, String(epoch / set.cycle));
      }
    }
    for (const tick of ticks) add("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) });
    add("text", { class: "name", x: 0, y: 14 }, "learning rate");
    add("text", { class: "name end", x: width - 1, y: 14 }, unit === set.cycle ? "cycle" : "");
    add("text", { class: "name end", x: width - 1, y: height - 5 }, `epoch, of ${many(set.steps, "iteration")}`);
    const points = drawn(set).map((i) => `${x(i / set.steps)},${y(rate(set, i))}`);
    add("polyline", { class: "rate", points: points.join(" ") });
    svg.setAttribute("aria-label", `The learning rate of the policy ${set.policy} over ` +
      `${many(set.epochs, "epoch")}, at most ${short(set.max_lr)}. ${cycles(set)}`);
  }

  /* A recorded range test, and what the package reads off it. */
  const test = JSON.parse(document.getElementById("range-test").textContent);
  const figure = document.getElementById("suggestion"), curve = figure.querySelector("svg");

  function drawCurve() {
    const { width, height, add } = blank(curve), left = 34, right = width - 12, top = 50, bottom = height - 42;
    const start = Math.log10(test.start_lr), end = Math.log10(test.end_lr), highest = Math.ceil(test.losses[0]);
    const at = (decade) => left + ((right - left) * (decade - start)) / (end - start), x = (lr) => at(Math.log10(lr));
    const y = (value) => bottom - ((bottom - top) * Math.min(value, highest)) / highest;
    const line = (values) => values
      .map((value, k) => `${at(start + ((end - start) * k) / (test.num_steps - 1))},${y(value)}`).join(" ");
    const [low, high] = [x(test.base_lr), x(test.max_lr)];
    add("rect", { class: "bounds", x: low, y: top, width: high - low, height: bottom - top });
    for (let decade = start; decade <= end; decade += width < 500 ? 2 : 1) {
      add("text", { class: "x", x: at(decade), y: bottom + 17 }, short(10 ** decade));
    }
    for (let tick = 0; tick <= highest; tick += 1) {
      add("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) });
      add("text", { class: "y", x: left - 7, y: y(tick) + 4 }, String(tick));
    }
    add("text", { class: "name", x: 0, y: 14 }, "loss");
    add("text", { class: "name end", x: width - 1, y: height - 5 }, "learning rate");
    add("polyline", { class: "batches", points: line(test.losses) });
    add("polyline", { class: "rate", points: line(test.average) });
    for (const [name, above] of [["base_lr", 12], ["max_lr", 28]]) {
      add("line", { class: "bound", x1: x(test[name]), x2: x(test[name]), y1: top - 8, y2: bottom });
      add("text", { class: "end", x: x(test[name]), y: top - above }, `${name} ${short(test[name])}`);
    }
    for (const name of ["low", "edge"]) {
      const value = test.average[Math.round(((Math.log10(test[name]) - start) / (end - start)) * (test.num_steps - 1))];
      add("circle", { class: "sign", cx: x(test[name]), cy: y(value), r: 5 });
      add("text", { class: "end", x: x(test[name]) - 9, y: y(value) + (name === "low" ? 18 : 4) }, name);
    }
    curve.setAttribute("aria-label", `The loss of a range test by learning rate: level, then falling, lowest at ` +
      `${test.low}, and rising from ${test.edge} on. The suggested bounds: ${test.base_lr} to ${test.max_lr}.`);
  }

  // --- the events ---------------------------------------------------------------------------------
  let last = null; // The last good settings: what is drawn.

  /* Answers the form's present state; says whether it could be drawn. */
  function update() {
    const { set, wrong, used } = read(), good = Object.keys(wrong).length === 0;
    const said = good ? notes(set) : {};
    for (const name of FIELDS) {
      const field = form.elements[name];
      field.parentElement.hidden = !used.includes(name);
      field.setAttribute("aria-invalid", String(name in wrong));
      write(document.getElementById(field.getAttribute("aria-describedby")), wrong[name] ?? said[name] ?? "");
    }
    form.classList.toggle("stale", !good);
    status.textContent = "";
    write(summary, good ? cycles(set) : `${Object.values(wrong).join(" ")} Drawn are the last good settings.`);
    if (!good) return false;
    draw(last = set);
    lines.textContent = python(set);
    link.href = `#${new URLSearchParams(new FormData(form))}`;
    return true;
  }

  /* Takes the settings from the address, where the link to them has put them. */
  function follow() {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      if (name === "policy" || FIELDS.includes(name)) form.elements[name].value = value;
    }
    return update();
  }

  copy.addEventListener("click", async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(lines.textContent);
    } catch { // It is absent in a page that browsers do not trust, or not allowed: the old way.
      getSelection().selectAllChildren(lines);
      copied = document.execCommand("copy");
    }
    status.textContent = copied ? "Copied." : "Selected, but not copied: press Ctrl+C.";
  });
  form.addEventListener("input", update);
  figure.querySelector("button").addEventListener("click", () => {
    for (const name of ["base_lr", "max_lr"]) form.elements[name].value = test[name];
    update();
    form.scrollIntoView();
    status.textContent = "The bounds are those of the range test.";
  });
  addEventListener("hashchange", () => {
    if (follow()) status.textContent = "The address of this page now holds these settings.";
  });
  form.hidden = figure.hidden = false;
  follow();
  new ResizeObserver(() => last && draw(last)).observe(svg);
  new ResizeObserver(drawCurve).observe(curve);
  window.clrExplorer = { rate };
})();
