// The axes of a plot: from values to places and back, linear or logarithmic, and their ticks.

class Scale {
  // `limits` are the values at the ends `from` and `to` of the axis, in units of the SVG.
  constructor([low, high, kind], from, to) {
    Object.assign(this, { low, high, from, to, isLog: kind === "log" });
  }

  warp(value) {
    return this.isLog ? Math.log10(value) : value;
  }

  place(value) {
    const low = this.warp(this.low);
    const share = (this.warp(value) - low) / (this.warp(this.high) - low);
    return this.from + share * (this.to - this.from);
  }

  value(place) {
    const share = (place - this.from) / (this.to - this.from);
    const low = this.warp(this.low);
    const warped = low + share * (this.warp(this.high) - low);
    return this.isLog ? 10 ** warped : warped;
  }

  // The same axis on the other kind of scale; `least` is the smallest value above 0 on it.
  turned(least) {
    const low = this.isLog || this.low > 0 ? this.low : least / 1.1;
    return new Scale([low, this.high, this.isLog ? "linear" : "log"], this.from, this.to);
  }

  ticks() {
    const steps = this.isLog ? this.decades() : this.even();
    const slack = 1e-9 * (this.high - this.low);
    return steps.filter((tick) => tick >= this.low - slack && tick <= this.high + slack);
  }

  even() {
    const rough = (this.high - this.low) / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    const first = Math.ceil(this.low / step);
    const last = Math.floor(this.high / step);
    return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  }

  decades() {
    const many = this.high / this.low > 300;
    const found = [];
    for (let n = Math.floor(Math.log10(this.low)); n <= Math.log10(this.high); n += 1) {
      for (const lead of many ? [1] : [1, 2, 5]) found.push(lead * 10 ** n);
    }
    return found;
  }
}

// Four significant digits, or the decimals that a whole axis needs.
function inDigits(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(size >= 1000 ? 6 : 4)));
}
