// Plots: values under the pointer or at the arrow keys, legends that toggle, scales that switch.

const SVG = "http://www.w3.org/2000/svg";
const REACH = 24; // units of the SVG between the pointer and a point that it means

const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);

class Mark {
  constructor(figure, [id, kind, norm, ...labels]) {
    this.group = figure.querySelector(`[id$="-${id}"]`);
    Object.assign(this, { kind, norm, labels });
  }

  get isShown() {
    return this.group.style.display !== "none";
  }

  // Places of all points as they were drawn, curve by curve.
  get drawn() {
    if (this.curves) return this.curves;
    this.uses = [...this.group.querySelectorAll("use")].map((use) => ({
      use,
      x: Number(use.getAttribute("x")),
      y: Number(use.getAttribute("y")),
    }));
    this.path = this.group.querySelector(":scope > path");
    const isLine = this.kind === "line" || this.kind === "lines";
    this.curves = isLine && this.path ? curvesOf(this.path) : this.uses.map((use) => [use]);
    return this.curves;
  }

  label(curve) {
    const isKnown = this.labels.length === this.drawn.length;
    return isKnown ? this.labels[curve] : (this.kind === "line" && this.labels[0]) || "";
  }

  move(to) {
    this.moved = this.drawn.map((curve) => curve.map(to));
    if (this.path) this.path.setAttribute("d", this.moved.map(outline).join(""));
    for (const one of this.uses) {
      const place = to(one);
      one.use.style.display = Number.isFinite(place.x + place.y) ? "" : "none";
      if (!Number.isFinite(place.x + place.y)) continue;
      one.use.setAttribute("x", place.x);
      one.use.setAttribute("y", place.y);
    }
  }

  *points() {
    const curves = this.moved ?? this.drawn;
    for (let i = 0; i < curves.length; i += 1) {
      for (const { x, y } of curves[i]) {
        if (Number.isFinite(x + y)) yield { x, y, mark: this, curve: i };
      }
    }
  }
}

function curvesOf(path) {
  const parts = path.getAttribute("d").split("M").slice(1);
  return parts.map((part) => {
    const numbers = part.match(/-?\d+(?:\.\d+)?/g).map(Number);
    return Array.from({ length: numbers.length / 2 }, (_, i) => ({
      x: numbers[2 * i],
      y: numbers[2 * i + 1],
    }));
  });
}

function outline(curve) {
  const there = curve.filter(({ x, y }) => Number.isFinite(x + y));
  return there.map(({ x, y }, i) => `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
}

class Panel {
  constructor(figure, data, steps) {
    const [left, top, right, bottom] = data.box;
    Object.assign(this, { about: data.about, title: data.title, box: data.box, steps });
    this.group = figure.querySelector(`[id$="-${data.id}"]`);
    this.marks = data.marks.map((mark) => new Mark(figure, mark));
    this.first = { x: new Scale(data.x, left, right), y: new Scale(data.y, bottom, top) };
    this.now = { ...this.first };
    this.names = { x: data.x[3], y: data.y[3] };
    this.isShown = true;
  }

  holds({ x, y }) {
    const [left, top, right, bottom] = this.box;
    return x > left - REACH && x < right + REACH && y > top - 6 && y < bottom + 6;
  }

  points() {
    return this.marks.filter((mark) => mark.isShown).flatMap((mark) => [...mark.points()]);
  }

  nearest(at) {
    let [best, least] = [null, REACH];
    for (const point of this.points()) {
      const far = Math.hypot(point.x - at.x, point.y - at.y);
      if (far < least) [best, least] = [point, far];
    }
    return best;
  }

  // What is read off is a hundredth of a unit wide; the steps are known exactly.
  stepAt(x) {
    const value = this.now.x.value(x);
    const scale = this.now.x;
    const far = (step) => Math.abs(scale.warp(step) - scale.warp(value));
    return this.steps.reduce((best, step) => (far(step) < far(best) ? step : best), this.steps[0]);
  }

  said(point) {
    const { mark } = point;
    const lines = [[mark.norm, mark.label(point.curve)].filter(Boolean).join(", ")];
    lines.push(`${this.names.x} ${this.stepAt(point.x).toLocaleString("en")}`);
    if (mark.kind !== "top") {
      lines.push(`${this.names.y} ${inDigits(this.now.y.value(point.y))}`);
      const others = this.besides(point);
      if (others.length > 1) {
        const [low, high] = [Math.min(...others), Math.max(...others)].map(inDigits);
        lines.push(`${others.length} seeds: ${low} to ${high}`);
      }
    }
    return lines;
  }

  // The values of the single seeds at a point of their average.
  besides({ x, mark }) {
    if (mark.kind !== "line") return [];
    const singles = this.marks.filter((m) => m.norm === mark.norm && m !== mark);
    return singles
      .filter((m) => m.kind === "lines" || m.kind === "dots")
      .flatMap((m) => [...m.points()])
      .filter((point) => Math.abs(point.x - x) < 0.03)
      .map((point) => this.now.y.value(point.y));
  }

  turn(axis) {
    const [first, now] = [this.first, this.now];
    const least = this.steps.find((step) => step > 0);
    now[axis] = now[axis] === first[axis] ? first[axis].turned(least) : first[axis];
    const moved = (name, place) =>
      now[name] === first[name] ? place : now[name].place(first[name].value(place));
    for (const mark of this.marks) {
      mark.move(({ x, y }) => ({
        x: moved("x", x),
        y: mark.kind === "top" ? y : moved("y", y),
      }));
    }
    this.drawTicks(axis);
  }

  drawTicks(axis) {
    const groups = this.group.querySelectorAll(':scope > g[id*="matplotlib.axis_"]');
    const group = groups[axis === "x" ? 0 : 1];
    const scale = this.now[axis];
    const isFirst = scale === this.first[axis];
    group.querySelector(":scope > .ours")?.remove();
    const ticks = [...group.children].filter((child) => child.querySelector("use"));
    for (const tick of ticks) tick.style.display = isFirst ? "" : "none";
    if (isFirst) return;
    const sample = ticks.map((tick) => tick.querySelector("text")).find(Boolean);
    const ours = document.createElementNS(SVG, "g");
    ours.setAttribute("class", "ours");
    const [left, top, right, bottom] = this.box;
    for (const value of scale.ticks()) {
      const place = scale.place(value);
      const line = document.createElementNS(SVG, "path");
      line.setAttribute("class", "grid");
      const across = axis === "x" ? `M${place} ${top}V${bottom}` : `M${left} ${place}H${right}`;
      line.setAttribute("d", across);
      ours.append(line);
      if (!sample) continue;
      const text = sample.cloneNode(false);
      text.setAttribute(axis, axis === "x" ? place : place + 3.4);
      text.textContent = inDigits(value);
      ours.append(text);
    }
    group.prepend(ours);
  }
}

class Plot {
  constructor(figure, data) {
    this.figure = figure;
    this.box = figure.querySelector(".plot");
    this.svg = this.box.querySelector("svg");
    this.keys = data.keys;
    this.off = new Set();
    this.panels = data.panels.map((panel) => new Panel(figure, panel, data.steps));
    figure.classList.add("live");
    const top = Math.min(...this.panels.map((panel) => panel.box[1]));
    figure.style.setProperty("--cut", `${Math.max(0, top - 22)}pt`);
    this.ring = document.createElementNS(SVG, "circle");
    this.ring.setAttribute("class", "ring");
    this.ring.setAttribute("r", "5");
    this.listen();
    this.addControls(data.steps);
  }

  listen() {
    this.box.classList.add("reads");
    this.box.setAttribute("role", "group");
    const title = this.svg.getAttribute("aria-label");
    this.box.setAttribute("aria-label", `${title}: plot; arrow keys read its points`);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.forget());
    this.box.addEventListener("blur", () => this.forget());
    this.box.addEventListener("keydown", (event) => this.press(event));
    this.box.addEventListener("scroll", () => this.forget());
  }

  point(event) {
    const inverse = this.svg.getScreenCTM().inverse();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
    const panel = this.panels.find((one) => one.isShown && one.holds(at));
    const point = panel?.nearest(at);
    if (point) this.tell(panel, point);
    else this.forget();
  }

  // Left and right along a curve, up and down to the next one, through all panels.
  press(event) {
    if (event.key === "Escape") this.forget();
    const [along, across] = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    }[event.key] ?? [0, 0];
    if (!along && !across) return;
    event.preventDefault();
    const curves = this.curves();
    if (!curves.length) return;
    const { key, step } = this.read ?? { key: "", step: -1 };
    let i = curves.findIndex((curve) => curve.key === key);
    const isNew = i < 0;
    i = isNew ? 0 : (i + across + curves.length) % curves.length;
    const { panel, points } = curves[i];
    const next = isNew ? 0 : Math.min(Math.max(step + along, 0), points.length - 1);
    this.read = { key: curves[i].key, step: next };
    this.tell(panel, points[next]);
    this.ring.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
    this.tell(panel, points[next]);
  }

  curves() {
    const found = new Map();
    this.panels.forEach((panel, i) => {
      if (!panel.isShown) return;
      for (const point of panel.points()) {
        const isDot = point.mark.kind === "dots" || point.mark.kind === "top";
        const key = `${i} ${panel.marks.indexOf(point.mark)} ${isDot ? "" : point.curve}`;
        if (!found.has(key)) found.set(key, { key, panel, points: [] });
        found.get(key).points.push(point);
      }
    });
    return [...found.values()];
  }

  tell(panel, point) {
    const [head, ...lines] = panel.said(point);
    const strong = document.createElement("strong");
    strong.textContent = head;
    const parts = lines.flatMap((line) => [document.createElement("br"), line]);
    tip.replaceChildren(strong, ...parts);
    tip.hidden = false;
    this.ring.setAttribute("cx", point.x);
    this.ring.setAttribute("cy", point.y);
    this.svg.append(this.ring);
    const { left, right, top, bottom } = this.ring.getBoundingClientRect();
    const { width, height } = tip.getBoundingClientRect();
    const fits = right + 8 + width < document.documentElement.clientWidth;
    tip.style.left = `${Math.max(4, fits ? right + 8 : left - width - 8)}px`;
    tip.style.top = `${top > height + 8 ? top - height - 4 : bottom + 4}px`;
  }

  forget() {
    tip.hidden = true;
    this.ring.remove();
  }

  addControls(steps) {
    const bar = document.createElement("div");
    bar.className = "keys";
    if (this.keys.length > 1) {
      for (const [norm, key] of this.keys) {
        bar.append(
          toggle(norm, key, (isOn) => {
            if (isOn) this.off.delete(norm);
            else this.off.add(norm);
            this.show();
          }),
        );
      }
    } else if (this.keys.length) {
      const only = document.createElement("span");
      only.innerHTML = this.keys[0][1];
      only.append(this.keys[0][0]);
      bar.append(only);
    }
    const above = steps.filter((step) => step > 0);
    if (above.at(-1) / above[0] >= 5) bar.append(this.scaleButton("x"));
    if (this.panels.some((panel) => panel.first.y.isLog)) bar.append(this.scaleButton("y"));
    this.box.before(bar);
  }

  scaleButton(axis) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "scale";
    const isLog = () => this.panels.some((panel) => panel.now[axis].isLog);
    const mark = () => button.setAttribute("aria-pressed", String(isLog()));
    button.textContent = `log ${axis}`;
    button.addEventListener("click", () => {
      for (const panel of this.panels) panel.turn(axis);
      this.forget();
      mark();
    });
    mark();
    return button;
  }

  show() {
    for (const panel of this.panels) {
      panel.isShown = isShown(panel.about);
      panel.group.style.opacity = panel.isShown ? "" : "0.12";
      for (const mark of panel.marks) {
        const isOn = !this.off.has(mark.norm) && isShown({ norm: mark.norm });
        mark.group.style.display = isOn ? "" : "none";
      }
    }
    this.figure.hidden = !this.panels.some((panel) => panel.isShown);
    this.forget();
  }
}
