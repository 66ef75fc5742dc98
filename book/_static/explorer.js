/* The policy explorer: reads the form of book/explorer.md, draws the rate, writes the Python lines.
   tests/test_explorer.py holds the formula to clr/policies.py. */
(() => {
  "use strict";

  // --- the formula --------------------------------------------------------------------------------
  const RISE = 0.3, FIRST = 25, LAST = 1e4; // OneCycleLR's pct_start, div_factor, final_div_factor

  /* The rate at an iteration from 0; step_size and total_steps in iterations. The place in the cycle
     is found in whole numbers, so the rate at iteration 1e9 is as right as at 10. */
  function rate({ policy, base_lr, max_lr, step_size, gamma, total_steps }, iteration) {
    if (policy === "one_cycle") {
      const end = total_steps - 1, turn = RISE * total_steps - 1, first = max_lr / FIRST;
      const place = Math.min(iteration, end);
      const along = (from, to, share) => to + ((from - to) / 2) * (1 + Math.cos(Math.PI * share));
      return place <= turn
        ? along(first, max_lr, place / turn)
        : along(max_lr, first / LAST, (place - turn) / (end - turn));
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

  const ONLY = { // These fields are hidden under other policies, and what they hold is not judged.
    base_lr: ["triangular", "triangular2", "exp_range"],
    step_size: ["triangular", "triangular2", "exp_range"],
    gamma: ["exp_range"],
  };
  const LIMITS = { // Far beyond any training; within them all whole numbers are exact.
    base_lr: [0, 1000], max_lr: [1e-12, 1000], gamma: [0, 1],
    step_size: [1, 10000], epochs: [1, 10000], batch_size: [1, 1e9], examples: [1, 1e9],
  };
  const WHOLE = ["step_size", "epochs", "batch_size", "examples"];
  const FIELDS = Object.keys(LIMITS);

  /* Reads the form: the settings, and what is wrong with them by field, in the package's words. */
  function read() {
    const policy = form.elements.policy.value, set = { policy }, wrong = {};
    const used = FIELDS.filter((name) => !ONLY[name] || ONLY[name].includes(policy));
    for (const name of used) {
      const text = form.elements[name].value.trim(), value = Number(text), [low, high] = LIMITS[name];
      const whole = WHOLE.includes(name), kind = whole ? "a whole number" : "a number, such as 0.01 or 1e-2";
      set[name] = value;
      if (text === "" || !Number.isFinite(value) || (whole && !Number.isInteger(value))) {
        wrong[name] = `\`${name}\` must be ${kind}.`;
      } else if (name === "gamma" && !(value > 0 && value <= 1)) {
        wrong[name] = "`gamma` must be in (0, 1].";
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
    set.cycle = policy === "one_cycle" ? set.epochs : 2 * set.step_size; // in epochs
    set.step_size *= set.steps;
    if (right("epochs", "batch_size", "examples") && policy === "one_cycle" && RISE * set.total_steps <= 1) {
      wrong.epochs = "`epochs` must make more iterations, so that the rate has some to rise in.";
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
  function notes({ policy, max_lr, gamma, steps, total_steps, step_size, examples, batch_size }) {
    const over = examples % batch_size, first = max_lr / FIRST;
    const tenth = 0.1 ** (1 / total_steps), digits = 3 + String(total_steps).length;
    return {
      base_lr: "Lower bound",
      max_lr: policy === "one_cycle" ? `From ${short(first)} up, then down to ${short(first / LAST)}` : "Upper bound",
      step_size: many(step_size, "iteration"),
      gamma: `Leaves ${short(100 * gamma ** total_steps, 2)} % of the amplitude; ` +
        `${short(tenth, digits)} would leave 10 %`,
      epochs: many(total_steps, "iteration"),
      batch_size: `${many(steps, "full batch", "full batches")} an epoch`,
      examples: over ? `${many(over, "example")} left over` : "None left over",
    };
  }

  /* Counts the cycles, and names the remedy if the last would be cut short. */
  function cycles({ policy, epochs, cycle }) {
    if (policy === "one_cycle") return `One cycle over ${many(epochs, "epoch")}.`;
    const into = epochs % cycle, whole = (epochs - into) / cycle;
    const count = `${many(whole, "whole cycle")} of ${many(cycle, "epoch")}`;
    if (into === 0) return `${count}: training ends where the rate is low.`;
    const remedy = [whole, whole + 1].filter(Boolean).map((n) => grouped(n * cycle)).join(" or ");
    return `${count}, and training would stop in mid-cycle, ${many(into, "epoch")} into the next. ` +
      `Whole cycles take ${remedy} epochs.`;
  }

  function python({ policy, base_lr, max_lr, gamma, epochs, batch_size, steps, examples, cycle }) {
    const name = policy === "one_cycle" ? "OneCycleLR" : "CyclicLR";
    const given = policy === "one_cycle"
      ? [`max_lr=${max_lr}`, `total_steps=${epochs} * steps`]
      : [`base_lr=${base_lr}`, `max_lr=${max_lr}`, `step_size=${cycle / 2} * steps`, `mode="${policy}"`];
    if (policy === "exp_range") given.push(`gamma=${gamma}`);
    return `from clr import ${name}

steps = len(x) // ${batch_size}  # ${steps} with ${examples} examples
n = ${batch_size} * steps  # full batches only
cycle = ${name}(
${given.map((argument) => `    ${argument},\n`).join("")})
model.fit(x[:n], y[:n], batch_size=${batch_size}, epochs=${epochs}, callbacks=[cycle])
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
  function drawn({ policy, step_size, total_steps }) {
    const GRID = 600, all = new Set();
    for (let k = 0; k <= GRID; k += 1) all.add(Math.floor((total_steps * k) / GRID));
    if (policy !== "one_cycle") for (let i = 0; i <= total_steps; i += step_size) all.add(i);
    return [...all].sort((a, b) => a - b);
  }

  /* The least of 1, 2, 5, 10, 20, 50, ... (or 0.1, 0.2, ...) that is not below a number. */
  function nice(number) {
    const power = 10 ** Math.floor(Math.log10(number));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= number * (1 - 1e-9));
  }

  function draw(set) {
    // One unit of the drawing is one pixel of the page: its letters are as large on a telephone.
    const { width, height } = svg.getBoundingClientRect();
    const right = width - 26, top = 44, bottom = height - 42;
    const y = (value) => bottom - ((bottom - top) * value) / set.max_lr;
    const add = (tag, attributes, text = "") => {
      const element = svg.appendChild(document.createElementNS(svg.namespaceURI, tag));
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      element.textContent = text;
      return element;
    };
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);

    // The reader's font decides how much room the rates beside the axis need.
    const step = nice(set.max_lr / 5);
    const ticks = Array.from({ length: Math.floor((set.max_lr / step) * (1 + 1e-9)) + 1 }, (_, k) => k * step);
    const labels = ticks.map((tick) => add("text", { class: "y", y: y(tick) + 4 }, short(tick)));
    const left = 9 + Math.max(...labels.map((label) => label.getComputedTextLength()));
    for (const label of labels) label.setAttribute("x", left - 7);
    const x = (epoch) => left + ((right - left) * epoch) / set.epochs;

    // Marks under the axis stand where cycles end, or at every second, fifth, ... end if those are many.
    const unit = set.policy === "one_cycle" || set.cycle > set.epochs ? 1 : set.cycle;
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
  addEventListener("hashchange", () => {
    if (follow()) status.textContent = "The address of this page now holds these settings.";
  });
  form.hidden = false;
  follow();
  new ResizeObserver(() => last && draw(last)).observe(svg);
  window.clrExplorer = { rate };
})();
