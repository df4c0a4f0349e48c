// Listeners that hold what they once needed, in V8's heap, beside garbage: node closures.js NUMBERS PERIOD_MS
const [numbers, period] = process.argv.slice(2).map(Number);
const listeners = [];
const start = performance.now();
let garbage;
setInterval(() => {
  while (listeners.length < (performance.now() - start) / period) {
    const request = new Array(numbers).fill(0.5);
    listeners.push(() => request.length);
  }
  garbage = Array.from({ length: 50 }, (_, i) => ({ i, text: "x".repeat(i) }));
}, period);
